//! Real images: an Alpine disk, a vmdk and a vdi of a real file system, and an ISO of a Debian package.
//!
//! `scripts/test` fetches them into `target/real-images` before it runs the tests.

use std::path::PathBuf;

use crate::support::Sandbox;

fn real(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/real-images").join(name);
    assert!(path.exists(), "{} is not there: run scripts/test", path.display());
    path
}

#[test]
fn real_images_come_in_whole_and_are_what_they_are() {
    let sandbox = Sandbox::new();
    for (name, format) in [("alpine.qcow2", "qcow2"), ("rescue.iso", "iso")] {
        let source = real(name);
        sandbox.ok(&format!("ln -s '{}' $F/{name}", source.display()));
        sandbox.ok(&format!("cp -L $F/{name} $M/active/{name} && cmp $F/{name} $M/active/{name}"));
        let path = format!("active/{name}");
        assert_eq!(sandbox.attribute(&path, "disk_format").as_deref(), Some(format));
    }
    sandbox.ok("mkdir $F/files; cp -r /usr/share/doc/[a-e]* $F/files 2>/dev/null
         truncate -s 96M $F/fs.raw && mkfs.ext4 -q -d $F/files $F/fs.raw
         for format in vmdk vdi vhdx vpc; do
             qemu-img convert -O $format $F/fs.raw $F/fs.$format
             cp $F/fs.$format $M/active/fs.$format
             cmp $F/fs.$format $M/active/fs.$format
         done
         cp $F/fs.raw $M/active/fs.raw");
    for (name, format) in [("vmdk", "vmdk"), ("vdi", "vdi"), ("vhdx", "vhdx"), ("vpc", "vhd")] {
        let path = format!("active/fs.{name}");
        assert_eq!(sandbox.attribute(&path, "disk_format").as_deref(), Some(format), "{name}");
    }
    sandbox.ok("qemu-img check -q $M/active/alpine.qcow2
         qemu-img check -q $M/active/fs.vdi
         qemu-img check -q $M/active/fs.vmdk
         for format in vmdk vdi vhdx vpc; do
             qemu-img compare -q -F raw -f $format $M/active/fs.$format $M/active/fs.raw
         done
         e2fsck -fn $M/active/fs.raw >/dev/null 2>&1
         qemu-img convert -O raw $M/active/alpine.qcow2 $F/alpine.raw
         qemu-img compare -q $F/alpine.raw $F/alpine.qcow2");
    sandbox.umount();
    sandbox.audit();
}

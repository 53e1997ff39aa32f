//! What an image is found to be at its close, and what is refused there.

use std::fs;

use crate::support::Sandbox;

// semantics: format-detected
#[test]
fn format_and_virtual_size_are_those_of_the_content() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 20M $F/disk.raw; mkfs.ext4 -q $F/disk.raw; cd $F
                for f in qcow2 vmdk vdi vhdx; do qemu-img convert -f raw -O $f disk.raw x.$f; done
                qemu-img convert -f raw -O vpc -o force_size=on disk.raw x.vhd
                qemu-img create -q -f luks --object secret,id=s,data=pw -o key-secret=s,iter-time=10 x.luks 20M
                cp disk.raw x.raw
                truncate -s 20M x.mbr; echo type=83 | sfdisk -q x.mbr
                truncate -s 20M x.gpt; echo label:gpt | sfdisk -q x.gpt
                xorriso -as mkisofs -quiet -o x.iso disk.raw
                for f in x.*; do cp $f $M/active/misleading-$f.txt; done");
    for format in ["qcow2", "vmdk", "vdi", "vhdx", "vhd", "luks", "raw", "mbr", "gpt", "iso"] {
        let path = format!("active/misleading-x.{format}.txt");
        assert_eq!(sandbox.attribute(&path, "disk_format").as_deref(), Some(format));
        let size: u64 =
            sandbox.attribute(&path, "virtual_size").expect("known").parse().expect("a size");
        match format {
            "iso" => assert!(size > 20 << 20),
            _ => assert_eq!(size, 20 << 20, "{format}"),
        }
    }
    sandbox.remount();
    let size = sandbox.attribute("active/misleading-x.qcow2.txt", "virtual_size");
    assert_eq!(size.as_deref(), Some("20971520"), "it is kept");
}

// semantics: format-refused
#[test]
fn an_image_that_reaches_outside_itself_is_killed_with_the_reason_and_its_data_is_gone() {
    let sandbox = Sandbox::new();
    sandbox.ok("cd $F; truncate -s 1M base
                qemu-img create -q -f qcow2 -b /etc/shadow -F raw backing
                qemu-img create -q -f qcow2 -o data_file=$F/outside,data_file_raw=on external 1M
                qemu-img create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 1M
                qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse split.vmdk 1M
                qemu-img create -q -f qed enhanced 1M");
    for (name, word) in [
        ("backing", "backing file"),
        ("external", "data in another file"),
        ("flat.vmdk", "vmdk"),
        ("split.vmdk", "vmdk"),
        ("enhanced", "qed"),
    ] {
        // What mv says of it is its own: the image has gone on to queued/ by then.
        for (how, says, folder, other) in [
            ("cp $F/IT $M/active/IT", "Input/output error", "killed", "queued"),
            ("cp $F/IT $M/uploading/IT; mv $M/uploading/IT $M/active/", "mv: ", "queued", "killed"),
        ] {
            sandbox.fails(&how.replace("IT", name), says);
            assert!(sandbox.names(other).is_empty());
            let path = format!("{folder}/{name}");
            let message = sandbox.attribute(&path, "message").expect("a reason");
            assert!(message.contains(word), "{name}: {message}");
            assert!(sandbox.log().contains(word));
            assert!(fs::read_to_string(sandbox.path("STATUS")).expect("a page").contains(word));
            assert_eq!(fs::read_dir(sandbox.store().join("staging")).expect("there").count(), 0);
            sandbox.ok(&format!("rm $M/{path}"));
        }
    }
    assert!(sandbox.names("active").is_empty());
}

// semantics: format-cut
#[test]
fn an_image_that_is_cut_short_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("head -c 20M /dev/urandom > $F/disk.raw; cd $F
                for f in qcow2 vmdk vdi vhdx; do qemu-img convert -f raw -O $f disk.raw x.$f; done
                qemu-img convert -f raw -O vpc disk.raw x.vhd
                truncate -s 20M x.gpt; echo label:gpt | sfdisk -q x.gpt
                xorriso -as mkisofs -quiet -o x.iso disk.raw");
    for format in ["qcow2", "vmdk", "vdi", "vhdx", "vhd", "gpt", "iso"] {
        sandbox.fails(
            &format!("head -c 10M $F/x.{format} | dd of=$M/active/x.{format} bs=1M status=none iflag=fullblock"),
            "Input/output error",
        );
        let message =
            sandbox.attribute(&format!("killed/x.{format}"), "message").expect("a reason");
        assert!(message.starts_with(format), "{message}");
    }
    assert!(sandbox.names("active").is_empty());
}

/// Makes two images from which qemu reads `$F/secret`: one names it in a second descriptor, where qemu looks
/// whatever the header says, and one is a text without the line by which it is known to others.
const TREACHEROUS: &str = r##"cd $F; yes secret | head -c 1M > secret
qemu-img convert -f raw -O vmdk secret parent.vmdk; qemu-img create -q -f vmdk honest 1M
python3 - <<'END'
import re, struct
image = bytearray(open("honest", "rb").read())
image += bytes(-len(image) % 512)
descriptor = bytes(image[512:512 + 20 * 512])
parent = re.search(rb"\nCID=(\w+)", open("parent.vmdk", "rb").read(4096)).group(1)
evil = descriptor.split(b"\0")[0].replace(b"parentCID=ffffffff", b"parentCID=" + parent)
evil += b'parentFileNameHint="parent.vmdk"\n'
image[28:36] = struct.pack("<Q", len(image) // 512)
image += descriptor
image[512:512 + len(evil)] = evil
open("elsewhere", "wb").write(image)
END
cat > description <<END
# a
version=1
CID=ffffffff
parentCID=ffffffff
createType="monolithicFlat"
RW 2048 FLAT "$F/secret" 0
END
for name in elsewhere description; do
    qemu-img convert -O raw $name out; cmp secret out
    ! cp $name $M/active/$name 2>/dev/null
    cp $name $M/uploading/$name; ! mv $M/uploading/$name $M/active/ 2>/dev/null
done; settled"##;

// semantics: format-refused
#[test]
fn an_image_in_which_only_qemu_finds_a_file_outside_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("set -e; {TREACHEROUS}"));
    assert_eq!(sandbox.names("active"), Vec::<String>::new());
    for (name, word) in [("elsewhere", "unusual place"), ("description", "other files")] {
        let message = sandbox.attribute(&format!("killed/{name}"), "message").expect("a reason");
        assert!(message.contains("vmdk") && message.contains(word), "{message}");
    }
}

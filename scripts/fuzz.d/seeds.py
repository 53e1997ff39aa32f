#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: small images by the tools that make them, and texts.

usage: seeds.py FOLDER

Below FOLDER there is a folder for each target. An image is written as `fuzz/src/disk.rs` reads it: only its
pages that are not all zero, 31 of them at most.
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile

PAGE = 4096
PAGES_MAX = 31

MIB = 1 << 20


def run(*words, **more):
    """Runs a tool for 30 seconds at most; answers whether it did what it was to do."""
    done = subprocess.run(
        words, timeout=30, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, check=False, **more,
    )
    if done.returncode != 0:
        print(f"seeds: {' '.join(words)}: {done.stderr.strip()}", file=sys.stderr)
    return done.returncode == 0


def pages(path):
    """The image as an input: the number of pages, its size, where the pages are, and the pages."""
    found = []
    with open(path, "rb", buffering=0) as image:
        size = os.fstat(image.fileno()).st_size
        at = 0
        last = max(0, (size - 512) // PAGE)
        while at < size:
            try:
                at = os.lseek(image.fileno(), at, os.SEEK_DATA) // PAGE * PAGE
            except OSError:
                break
            page = os.pread(image.fileno(), PAGE, at)
            if page.strip(b"\0"):
                found.append((at // PAGE, page.ljust(PAGE, b"\0")))
            at += PAGE
    # What stands at the end tells as much as what stands at the beginning.
    end = [page for page in found if page[0] >= last]
    kept = [page for page in found if page[0] < last][: PAGES_MAX - len(end)] + end[:PAGES_MAX]
    head = struct.pack("<BQ", len(kept), size) + b"".join(struct.pack("<I", i) for i, _ in kept)
    return head + b"".join(page for _, page in kept)


class Seeds:
    def __init__(self, folder, work):
        self.folder, self.work = folder, work
        self.source = self.file("source.raw")
        generator = random.Random(1)
        with open(self.source, "wb") as source:
            source.truncate(4 * MIB)
            for at in (0, 200 * 1024, 3 * MIB):
                source.seek(at)
                source.write(b"sps " * 256 + generator.randbytes(1000))

    def file(self, name):
        return os.path.join(self.work, name)

    def put(self, target, name, data):
        os.makedirs(os.path.join(self.folder, target), exist_ok=True)
        with open(os.path.join(self.folder, target, name), "wb") as seed:
            seed.write(data if isinstance(data, bytes) else data.encode())

    def image(self, target, name, path):
        data = pages(path)
        self.put(target, name, data)
        self.put("whole", f"{target}-{name}", data)

    def convert(self, target, kind, name, *options):
        path = self.file(f"{target}-{name}")
        words = [word for option in options for word in (option if isinstance(option, tuple) else ("-o", option))]
        if run("qemu-img", "convert", "-f", "raw", "-O", kind, *words, self.source, path):
            self.image(target, name, path)
        return path

    def create(self, target, kind, name, size, *words):
        path = self.file(f"{target}-{name}")
        if run("qemu-img", "create", "-q", "-f", kind, *words, path, *([size] if size else [])):
            self.image(target, name, path)
        return path

    def qcow2(self):
        base = self.convert("qcow2", "qcow2", "v3")
        self.convert("qcow2", "qcow2", "v2", "compat=0.10")
        self.convert("qcow2", "qcow2", "small-clusters", "cluster_size=512")
        self.convert("qcow2", "qcow2", "narrow-counts", "refcount_bits=1")
        self.convert("qcow2", "qcow2", "deflate", ("-c",))
        self.convert("qcow2", "qcow2", "zstd", ("-c",), "compression_type=zstd")
        self.convert("qcow2", "qcow2", "subclusters", "extended_l2=on,cluster_size=64k")
        self.create("qcow2", "qcow2", "huge", "8T", "-o", "cluster_size=2M")
        self.create("qcow2", "qcow2", "data-file", "4M", "-o", f"data_file={self.file('data')}")
        self.create("qcow2", "qcow2", "backing", "", "-F", "qcow2", "-b", base)
        self.create("qcow2", "qcow2", "lazy", "4M", "-o", "lazy_refcounts=on")
        secret = ("--object", "secret,id=s,data=abc")
        luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
        self.create("qcow2", "qcow2", "encrypted", "4M", *secret, "-o", luks)
        for change in ("snapshot -c one", "bitmap --add PATH b"):
            path = self.convert("qcow2", "qcow2", "changed")
            words = [word if word != "PATH" else path for word in change.split()]
            if run("qemu-img", *words, *([] if "PATH" in change else [path])):
                self.image("qcow2", words[0], path)

    def others(self):
        for kind in ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "streamOptimized"):
            self.convert("vmdk", "vmdk", kind, f"subformat={kind}")
        # Two descriptors: one where the header says, and one where qemu looks.
        with open(self.file("vmdk-monolithicSparse"), "rb") as image:
            data = bytearray(image.read())
        data += bytes(-len(data) % 512)
        data[28:36] = struct.pack("<Q", len(data) // 512)
        data += data[512 : 512 + 20 * 512]
        text = data[512 : 512 + 20 * 512].split(b"\0")[0] + b'parentFileNameHint="b"\n'
        data[512 : 512 + len(text)] = text
        with open(self.file("two.vmdk"), "wb") as image:
            image.write(data)
        run("fallocate", "-d", self.file("two.vmdk"))
        self.image("vmdk", "two-descriptors", self.file("two.vmdk"))
        self.create("vmdk", "vmdk", "backing", "", "-F", "vmdk", "-b", self.file("vmdk-monolithicSparse"))
        self.convert("vdi", "vdi", "dynamic")
        self.convert("vdi", "vdi", "static", "static=on")
        for kind in ("dynamic", "fixed"):
            self.convert("vhd", "vpc", kind, f"subformat={kind}")
            self.convert("vhdx", "vhdx", kind, f"subformat={kind}")
        self.convert("vhd", "vpc", "exact", "subformat=dynamic,force_size=on")
        self.convert("vhdx", "vhdx", "small-blocks", "block_size=1M,log_size=1M")
        self.convert("whole", "qed", "qed")
        self.convert("whole", "parallels", "parallels")
        self.image("whole", "raw", self.source)
        for name, text in {
            "text": "# a\n  \r\nversion=1\r\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"/etc/b\" 0\n",
            "parent": '# Disk DescriptorFile\nparentFileNameHint="b"\n',
        }.items():
            path = self.file(f"{name}.text")
            with open(path, "w", encoding="ascii") as image:
                image.write(text)
                image.truncate(8192)
            self.image("vmdk", name, path)
        secret = ("--object", "secret,id=s,data=abc")
        self.create("luks", "luks", "qemu", "1M", *secret, "-o", "key-secret=s,iter-time=10")
        text = json.dumps({"segments": {"0": {"type": "crypt", "offset": "16777216"}}}).replace(" ", "")
        header = b"LUKS\xba\xbe\0\2" + struct.pack(">Q", 16384)
        with open(self.file("luks2"), "wb") as luks:
            luks.write(header.ljust(4096, b"\0") + text.encode())
            luks.truncate(17 * MIB)
        self.image("luks", "two", self.file("luks2"))

    def disks(self):
        for name, script in {
            "gpt": "label: gpt\nsize=2MiB\nsize=3MiB\n",
            "mbr": "label: dos\nsize=2MiB,type=83\ntype=82\n",
            "extended": "label: dos\nsize=2MiB,type=83\ntype=5\nsize=1MiB\n",
        }.items():
            path = self.file(name)
            with open(path, "wb") as disk:
                disk.truncate(16 * MIB)
            done = subprocess.run(["sfdisk", "-q", path], input=script, text=True, timeout=30,
                                  capture_output=True, check=False)
            if done.returncode == 0:
                self.image("partition", name, path)
        path = self.file("sgdisk")
        with open(path, "wb") as disk:
            disk.truncate(8 * MIB)
        if run("sgdisk", "-n", "1:2048:+1M", "-h", "1", path):
            self.image("partition", "hybrid", path)
        tree = self.file("tree")
        os.makedirs(tree)
        with open(os.path.join(tree, "file"), "w", encoding="utf-8") as inside:
            inside.write("inside")
        for name, words in {
            "plain": [],
            "joliet": ["-J", "-R"],
            "appended": ["-append_partition", "2", "0xef", self.source, "-appended_part_as_gpt"],
        }.items():
            path = self.file(f"{name}.iso")
            if run("xorriso", "-as", "mkisofs", "-quiet", *words, "-o", path, tree):
                self.image("iso", name, path)

    def texts(self):
        uuid = "11111111-2222-4333-8444-555555555555"
        digest = "ab" * 32
        many = {
            "names": ["debian-12.qcow2", "x~0123abcd", "größe", ".spsx", "a b", uuid, digest, "ab" * 64, "ab" * 16],
            "attributes": [
                "tags=lts, gold,größe\nmin_disk=10\nmin_ram=512\nproperty.os=debian\nproperty.os=",
                f"expected_size=4096\nexpected_blake3={digest}\nexpected_sha256={digest}\ndisk_format=qcow2",
                f"expected_md5={'AB' * 16}\nexpected_sha512={digest * 2}\nprotected=true\nvisibility=public",
                "id=x\nstatus=active\nmessage=x\nprotected=yes\nmin_disk=4294967296\ntags=a,,b",
            ],
            "task_order": [
                '{"type":"import","input":{"import_from":"/srv/a.qcow2","image_properties":{"name":"a","disk_format":'
                '"qcow2","tags":["x"],"min_disk":1,"min_ram":2,"properties":{"k":"v"}}}}',
                '{"type":"convert","input":{"image":"a","to":"vmdk","name":"b"}}',
                '{"type":"verify","input":{"image":"%s"}}' % uuid, '{"type":"scrub"}', '{"type":"\\u001b","input":{}}',
                '{"type":"verify","input":{"x\\n":1}}',
            ],
            "task_stored": [
                '{"import_from":"/srv/a","image_properties":{"name":"a","tags":["x"],"properties":{"k":"v"}},"image":"%s"}' % uuid,
                '{"import_staged":"%s"}' % uuid, '{"scrub":"due"}', '{"image":"%s"}' % uuid, '{}',
                '{"convert":"%s","to":"raw","name":"b"}' % uuid, '{"contents":1,"size_bytes":2,"damaged":0}', '{"images":3}',
            ],
            "manifest": [json.dumps({
                "version": 2, "record": 7, "id": uuid, "name": "a.raw", "blake3": digest, "size": 5,
                "disk_format": "raw", "virtual_size": 512, "status": status, "origin": "active", "owner": 0, "group": 0,
                "mode": 420, "created_at_ns": 1, "modified_at_ns": -1, "checksums": {"sha256": digest},
                "tags": ["x"], "properties": {"k": "v"}, "min_disk": 1, "min_ram": 1, "message": "why",
            }) for status in ("active", "pending_delete", "saving")],
            "config_file": [
                'threads = 3\nlocation_root = ["/a", "/b"]\nscrub_time = "15m"\ndelayed_delete = false\n',
                'quota_bytes = "10G"\nquota_images = 40\nimage_size_cap = 1000\nlog = "debug"\n', 'threads = [\n', '[a]\nb = 1',
            ],
            "options": [
                "threads=5,log=debug,publish=all\nSCRUB_TIME=90s\nQUOTA_BYTES=2T",
                "publish=group,gid=7,ro,location_root=/a,location_root=/b,stall_time=0", "forget_time=12h,task_time=7d",
                "quota_bytes=99999999999T,scrub_time=999999999999999999d",
            ],
            "mountinfo": ["/mnt/a b", "/mnt/\\040", "/ - fuse.sps", "31 22 0:41 / /mnt/a\\040b rw - fuse.sps sps rw\n"],
            "text": ["\x1b[2J\x9b\u202e\u2066\u2028\u200b", "12345678"],
        }
        for target, seeds in many.items():
            for number, seed in enumerate(seeds):
                self.put(target, str(number), seed)


def main():
    with tempfile.TemporaryDirectory(prefix="sps-seeds-") as work:
        seeds = Seeds(sys.argv[1], work)
        seeds.qcow2()
        seeds.others()
        seeds.disks()
        seeds.texts()


main()

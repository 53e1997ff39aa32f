"""Reads an active image in every way at random, and holds what comes against its source.

usage: read.py make SOURCE SEED | check SOURCE SEED IMAGE OPERATIONS OUT OUT_IN_MOUNT, as scripts/conformance calls it.
"""

import collections, errno, mmap, os, random, sys

SIZE = 24 * (1 << 20) + 12_345
chance = random.Random(int(sys.argv[3]))


def make(path):
    """A file of data and holes of many lengths, that ends in a part of a block."""
    with open(path, "wb") as file:
        at = 0
        while at < SIZE:
            length = min(chance.choice([1, 700, 4096, 65_536, 1 << 20]) * chance.randrange(1, 4), SIZE - at)
            if chance.random() < 0.6:
                os.pwrite(file.fileno(), chance.randbytes(length), at)
            at += length
        file.truncate(SIZE)


def data_at(descriptor, at, whence):
    """What lseek says, an error as its name."""
    try:
        return os.lseek(descriptor, at, whence)
    except OSError as error:
        return errno.errorcode[error.errno]


def holds(at, found, whence, data):
    """Whether what lseek found of the image is true of the data: where it may put holes is its own affair."""
    if at >= SIZE:
        return found == "ENXIO"
    if whence == os.SEEK_DATA:
        end = SIZE if found == "ENXIO" else found
        return end >= at and not any(data[at:end])
    return at <= found <= SIZE


def check(source, image, operations, out, out_in_mount):
    data = open(source, "rb").read()
    descriptor = os.open(image, os.O_RDONLY)
    mapped = mmap.mmap(descriptor, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    private = mmap.mmap(descriptor, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ)
    sink = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    # The kernel copies between two files of one filesystem only.
    inside = os.open(out_in_mount, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    counts = collections.Counter()
    for _ in range(operations):
        kind = chance.choice(["pread", "readv", "mmap", "private", "seek", "sendfile", "copy", "read", "reopen"])
        at = chance.randrange(SIZE + 8192) if chance.random() < 0.9 else chance.randrange(SIZE >> 12) << 12
        length = chance.choice([1, 511, 4096, 70_000, 300_000])
        wanted = data[at:at + length]
        if kind == "reopen":
            counts[kind] += 1
            os.close(descriptor)
            descriptor = os.open(image, os.O_RDONLY)
            if os.fstat(descriptor).st_size != SIZE:
                sys.exit(f"its size is {os.fstat(descriptor).st_size}")
            continue
        if kind == "seek":
            whence = chance.choice([os.SEEK_DATA, os.SEEK_HOLE])
            found = data_at(descriptor, at, whence)
            if not holds(at, found, whence, data):
                sys.exit(f"lseek({at}, {whence}) is {found}")
        else:
            if kind == "pread":
                got = os.pread(descriptor, length, at)
            elif kind == "read":
                os.lseek(descriptor, at, os.SEEK_SET)
                got = os.read(descriptor, length)
            elif kind == "readv":
                parts = [bytearray(length // 3), bytearray(length - length // 3)]
                count = os.preadv(descriptor, parts, at)
                got = b"".join(parts)[:count]
            elif kind == "mmap":
                got = mapped[at:at + length]
            elif kind == "private":
                got = private[at:at + length]
            else:
                to = inside if kind == "copy" else sink
                os.ftruncate(to, 0)
                os.lseek(to, 0, os.SEEK_SET)
                if kind == "sendfile":
                    count = os.sendfile(to, descriptor, at, length)
                else:
                    count = os.copy_file_range(descriptor, to, length, at, 0)
                got = os.pread(to, length, 0)
                if count != len(got):
                    sys.exit(f"{kind} at {at} says {count} and gave {len(got)}")
            # Any may give less than was asked for, but something, and at the end nothing.
            if got != wanted[:len(got)] or bool(got) != bool(wanted):
                sys.exit(f"{kind} of {length} at {at} gave other bytes, {len(got)} of {len(wanted)}")
        counts[kind] += 1
    print(f"{operations} operations (" + ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())) + ")")


if sys.argv[1] == "make":
    make(sys.argv[2])
else:
    check(sys.argv[2], sys.argv[4], int(sys.argv[5]), sys.argv[6], sys.argv[7])

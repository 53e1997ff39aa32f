"""Works on one mount for a while, runs the model's sequences beside it, and says what the daemon takes.

usage: load.py SEED HOURS WORK SPS TESTS, as scripts/soak calls it.
"""

import errno, os, pathlib, random, subprocess, sys, threading, time

seed, seconds = int(sys.argv[1]), float(sys.argv[2]) * 3600
work, sps, tests = pathlib.Path(sys.argv[3]), sys.argv[4], sys.argv[5]
store, mount = work / "store", work / "mnt"
# What may be more at the end than at the beginning, when all images are gone again. The registry keeps the last
# transitions, and both it and its log keep the room that they once took; its connections have caches, 64 MiB in
# all, that fill as it grows.
BOUNDS = {"rss KiB": 64 << 10, "descriptors": 8, "threads": 8, "store KiB": 256, "registry KiB": 24 << 10}
FINE = {errno.ENOENT, errno.EACCES, errno.ECANCELED, errno.EEXIST, errno.EBUSY, errno.EPERM, errno.ENODATA}
STATUSES = "queued saving uploading importing active deactivated killed pending_delete deleted".split()
# In a run that is long enough for those to be full at half time, this is what the second half may add.
LONG, SECOND_HALF_KIB = 1800, 16 << 10
faults, counts, rows, until = [], {}, [], 0.0
table = open("target/soak.txt", "w")


def tell(line):
    print(line, flush=True)
    print(line, file=table, flush=True)


def write(path, chance, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    descriptor = os.open(path, flags, 0o644)
    try:
        # Of one letter, so that a reader knows a mixture.
        data = bytes([chance.randrange(97, 123)]) * chance.choice([1, 4096, 70_000, 600_000])
        for _ in range(chance.randrange(1, 4)):
            os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read(path):
    data = path.read_bytes()
    if len(set(data)) > 1:
        faults.append(f"{path} is half another: {len(data)} bytes of {set(data)}")


def writer(path, chance):
    # Of one letter, too: until it ends, what it closed may be read.
    end = chance.choice(["kill -9 $$", "exit 3", "exec 3>&-; exit 1"])
    subprocess.run(["sh", "-c", f'exec 3>"$1" || exit; printf zzzz >&3; {end}', "sh", str(path)],
                   stderr=subprocess.DEVNULL, timeout=60)


def listing(chance):
    folder = mount / chance.choice(STATUSES)
    for entry in os.scandir(folder):
        entry.stat(follow_symlinks=False)
    (mount / "STATUS").read_bytes()


def removal(chance):
    # More than one, so that there are not more images all the time.
    folder = mount / chance.choice(STATUSES)
    names = os.listdir(folder)
    for name in chance.sample(names, min(len(names), 20)):
        os.unlink(folder / name)


def attributes(path, chance):
    os.setxattr(path, "user.sps.tags", b"soak")
    os.getxattr(path, "user.sps.blake3")
    os.chmod(path, chance.choice([0o644, 0o600]))


def load(number):
    chance = random.Random(seed * 1000 + number)
    active, staging = mount / "active", mount / "uploading"
    while time.monotonic() < until and not faults:
        path, other = (active / f"n{chance.randrange(40)}" for _ in range(2))
        staged = staging / f"s{number}-{chance.randrange(1 << 30)}"
        what, work = chance.choice([
            ("upload", lambda: write(path, chance)), ("upload", lambda: write(path, chance)),
            ("rename", lambda: os.rename(path, other)), ("read", lambda: read(path)),
            ("withhold", lambda: os.rename(path, mount / "deactivated" / path.name)),
            ("remove", lambda: os.unlink(path)), ("remove anywhere", lambda: removal(chance)),
            ("import", lambda: (write(staged, chance), os.rename(staged, other))),
            ("killed writer", lambda: writer(path, chance)), ("list", lambda: listing(chance)),
            ("attributes", lambda: attributes(path, chance)),
        ])
        counts[what] = counts.get(what, 0) + 1
        try:
            work()
        except OSError as error:
            if error.errno not in FINE:
                faults.append(f"{what}: {error}")
        except Exception as error:
            faults.append(f"{what}: {error!r}")


def models():
    rounds = 0
    while time.monotonic() < until and not faults:
        environment = dict(os.environ, SOAK_SEED=str(seed + rounds), SOAK_FACTOR="1")
        try:
            done = subprocess.run([tests, "model::"], env=environment, text=True, timeout=1800,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired:
            faults.append(f"the model with seed {seed + rounds} takes more than half an hour")
            return
        if done.returncode:
            faults.append(f"the model with seed {seed + rounds}:\n{done.stdout[-6000:]}")
        rounds += 1
        counts["model rounds"] = rounds


def size_kib(paths):
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks // 2
        except OSError:
            pass  # It went meanwhile.
    return total


def measure():
    process = pathlib.Path("/proc") / os.getxattr(mount, "user.sps.pid").decode()
    rss = next(l for l in (process / "status").read_text().splitlines() if l.startswith("VmRSS:"))
    data = [p for folder in ("blobs", "staging", "manifests") for p in (store / folder).rglob("*") if not p.is_dir()]
    return {"rss KiB": int(rss.split()[1]), "descriptors": len(os.listdir(process / "fd")),
            "threads": len(os.listdir(process / "task")), "store KiB": size_kib(data),
            "registry KiB": size_kib(store.glob("sps.db*"))}


def note(when, taken):
    images = sum(len(os.listdir(mount / status)) for status in STATUSES)
    row = "".join(f"{taken[what]:>14}" for what in BOUNDS)
    tell(f"{when:>8}{row}{images:>9}{sum(counts.values()):>12}")


def run(span):
    """Works for a while, then removes all images and waits until nothing is left of them."""
    global until
    began = time.monotonic()
    until = began + span
    workers = [threading.Thread(target=load, args=(n,), daemon=True) for n in range(4)]
    workers += [threading.Thread(target=models, daemon=True)] if span == seconds else []
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        workers[-1].join(min(60, max(seconds / 8, 1)))
        for worker in workers:
            worker.join(0 if time.monotonic() < until else 0.1)
        if span == seconds:
            rows.append(measure())
            note(f"{time.monotonic() - began:.0f} s", rows[-1])
    deadline = time.monotonic() + 120
    while any(left := [p for s in STATUSES for p in (mount / s).iterdir()]) and not faults:
        for path in left:
            try:
                path.unlink()
            except OSError:
                pass  # It has gone on by itself.
        if time.monotonic() > deadline:
            faults.append(f"{len(left)} images do not go: {left[:5]}")
    while size_kib(p for p in (store / "blobs").rglob("*") if p.is_file()) and not faults:
        if time.monotonic() > deadline:
            faults.append("data of images that are gone is still there")
        time.sleep(0.2)


mount.mkdir()
subprocess.run([sps, "mount", "--store", store, "-o", "scrub_time=2s,forget_time=3s,killed_time=3s,task_time=5s",
                mount], check=True, timeout=60)
tell(f"seed {seed}, {seconds:.0f} s\n{'':>8}" + "".join(f"{what:>14}" for what in BOUNDS) + "   images  operations")
run(seconds / 10)
first = measure()
note("begin", first)
run(seconds)
last = measure()
note("end", last)
for what, bound in BOUNDS.items():
    if last[what] > first[what] + bound and not faults:
        faults.append(f"{what}: {first[what]} at the beginning, {last[what]} at the end, {bound} more are fine")
if seconds >= LONG and last["rss KiB"] > (half := rows[len(rows) // 2]["rss KiB"]) + SECOND_HALF_KIB:
    faults.append(f"rss KiB: {half} at half time, {last['rss KiB']} at the end, {SECOND_HALF_KIB} more are fine")
tell(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
subprocess.run([sps, "umount", mount], check=True, timeout=60)
for fault in faults:
    tell(f"FAULT {fault}")
if faults:
    lines = (store / "sps.log").read_text().splitlines()
    tell("\n".join([line for line in lines if " INFO " not in line and "op=withdraw" not in line][-20:]))
sys.exit(1 if faults else 0)

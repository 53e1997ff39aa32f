"""Switches the faults of cargo-mutants on, one after the other, and says which of them no test sees.

usage: run.py SECONDS SHARE PATTERN…, as scripts/mutants calls it, at the root of the project.
"""

import collections, json, os, pathlib, queue, random, re, select, signal, subprocess, sys, threading, time

budget, share, patterns = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
root = pathlib.Path.cwd()
work = root / "target/mutants"
tree, listing, left_out = work / "tree", work / "list.json", work / "left-out"
# Those that build and install, and those that are about the source.
NOT_RUN = re.compile(r"^(stress|tidy|semantics)::|command::(package|systemd)")
WORKERS, LONGEST = 2, 45


def output(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def prepare():
    """Copies the tree, and puts in all faults that compile."""
    subprocess.run(["rm", "-rf", tree], check=True)
    tree.mkdir(parents=True)
    files = output("git", "ls-files", "-z")
    subprocess.run(["cp", "--parents", "-t", tree, *files.strip("\0").split("\0")], check=True)
    (tree / "target").mkdir()
    (tree / "target/real-images").symlink_to(root / "target/real-images")
    chosen = [word for pattern in patterns for word in ("--file", pattern)]
    listing.write_text(output("cargo", "mutants", "--list", "--json", *chosen))
    left_out.write_text("")
    subprocess.run(["cp", root / "scripts/mutants.d/switch.rs", tree / "src/mutants.rs"], check=True)
    library = (root / "src/lib.rs").read_text()
    (tree / "src/lib.rs").write_text(library.replace("pub mod catalog;", "pub mod catalog;\npub mod mutants;", 1))
    manifest = root / "scripts/mutants.d/Cargo.toml"
    for _ in range(20):
        lost = output("cargo", "run", "--quiet", "--manifest-path", manifest, "--target-dir", work / "rewriter", "--",
                      listing, left_out, root, tree)
        built = subprocess.run(["cargo", "check", "--quiet", "--message-format=json", "--features", "failpoints", "--lib"],
                               cwd=tree, stdout=subprocess.PIPE, text=True, env=environment())
        if built.returncode == 0:
            return set(map(int, left_out.read_text().split())) | set(map(int, lost.split()))
        wrong = set().union(*map(faults_at, built.stdout.splitlines()))
        if not wrong:
            sys.exit("it does not compile, and no fault is to blame: cargo check in target/mutants/tree says why")
        left_out.write_text(left_out.read_text() + " ".join(map(str, sorted(wrong))) + "\n")
    sys.exit("it does not compile")


def environment(**more):
    return dict(os.environ, CARGO_TARGET_DIR=str(work / "target"), CARGO_PROFILE_TEST_DEBUG="0", **more)


def faults_at(line):
    """The faults in the lines that a message of the compiler is about, or the one before them."""
    message = json.loads(line).get("message") or {}
    found = set()
    for span in message.get("spans", []) if message.get("level") == "error" else []:
        lines = (tree / span["file_name"]).read_text().split("\n")
        numbers = lambda text: [int(number) for number in re.findall(r"mutants::on\((\d+)u32\)", text)]
        here = numbers("\n".join(lines[span["line_start"] - 1 : span["line_end"]]))
        before = numbers("\n".join(lines[max(span["line_start"] - 6, 0) : span["line_start"]]))
        found |= set(here or before[-1:]) if span["is_primary"] else set()
    return found


def binaries():
    built = output("cargo", "test", "--features", "failpoints", "--lib", "--test", "it", "--no-run", "--message-format=json",
                   cwd=tree, env=environment(), stderr=subprocess.DEVNULL)
    made = [json.loads(line) for line in built.splitlines()]
    return [one["executable"] for one in made if one.get("executable") and one.get("profile", {}).get("test")]


def clean(folder):
    """Ends what still works on a folder, and takes off what is mounted in it."""
    for _ in range(2):
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                said = [pathlib.Path(f"/proc/{process}/{part}").read_bytes() for part in ("cmdline", "environ")]
                if f"{folder}/".encode() in said[0] or f"TMPDIR={folder}\0".encode() in said[1]:
                    os.kill(int(process), signal.SIGKILL)
            except OSError:
                pass  # It has ended.
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
            subprocess.run(["umount", "-c", "-f", "-l", mount], stderr=subprocess.DEVNULL)
    subprocess.run(["find", folder, "-xdev", "-mindepth", "1", "-delete"], stderr=subprocess.DEVNULL)


def run(binary, tests, folder, seconds, **more):
    """Runs tests; answers the first that failed, or "time", or none."""
    end = time.monotonic() + seconds
    process = subprocess.Popen([binary, "--exact", "--test-threads=3", *tests], cwd=tree, start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=environment(TMPDIR=str(folder), RUST_BACKTRACE="0", **more))
    said, outcome = b"", None
    # What a test has started may have the other end of the pipe for ever.
    while outcome is None:
        if time.monotonic() > end:
            outcome = "time"
        elif select.select([process.stdout], [], [], 0.5)[0]:
            data = os.read(process.stdout.fileno(), 1 << 16)
            said += data
            failed = re.search(rb"^test (\S+) .*FAILED$", said, re.M)
            if failed:
                outcome = failed[1].decode()
            elif not data:
                break
        elif process.poll() is not None:
            break
    if outcome:
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    process.stdout.close()
    clean(folder)
    return outcome or ("it ended badly" if status else None)


def in_parallel(items, work_on):
    waiting = queue.Queue()
    for item in items:
        waiting.put(item)

    def worker(number):
        folder = work / f"tmp/{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            work_on(item, folder)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def look(tests):
    """How long each test takes, and by which faults it comes."""
    seen = {}

    def one(test, folder):
        noted = folder.parent / f"seen-{threading.get_ident()}"
        noted.write_text("")
        noted.chmod(0o666)
        began = time.monotonic()
        failed = run(test[0], [test[1]], folder, 4 * LONGEST, MUTANTS_SEEN=str(noted))
        if not failed and time.monotonic() - began < LONGEST:
            seen[test] = (time.monotonic() - began, set(map(int, noted.read_text().split())))
        elif failed:
            print(f"left out, as it fails without a fault: {test[1]}: {failed}", flush=True)

    in_parallel(tests, one)
    return seen


def main():
    without = prepare()
    faults = json.loads(listing.read_text())
    programs = binaries()
    tests = [(program, line[: -len(": test")]) for program in programs
             for line in output(program, "--list", cwd=tree).splitlines() if line.endswith(": test")]
    seen = look([test for test in tests if not NOT_RUN.search(test[1])])
    numbers = [number for number in range(1, len(faults) + 1) if number not in without]
    numbers = random.Random(1).sample(numbers, round(len(numbers) * share))
    kills, outcomes = collections.Counter(), {}

    def one(number, folder):
        # Those that have seen many faults of this file come first, then those that are quick.
        file = faults[number - 1]["file"]
        order = sorted((seconds / (1 + 3 * kills[file, test] + kills[test] / 4), test)
                       for test, (seconds, comes_by) in seen.items() if number in comes_by)
        left, outcome = budget, None if order else "nobody comes by"
        while order and left > 0 and not outcome:
            program = order[0][1][0]
            batch = [test for _, test in order if test[0] == program][:12]
            while len(batch) > 1 and sum(seen[test][0] for test in batch) > 4:
                batch.pop()
            order = [(rank, test) for rank, test in order if test not in batch]
            seconds = sum(seen[test][0] for test in batch)
            left -= seconds
            failed = run(program, [test[1] for test in batch], folder, 3 * seconds + 15, MUTANT=str(number))
            if failed:
                outcome = f"seen by {failed}"
                for test in batch:
                    if test[1] == failed:
                        kills[test] += 1
                        kills[file, test] += 1
        outcomes[number] = outcome or ("not seen" if not order else "not seen in time")
        print(f"{outcomes[number]}: {number} {faults[number - 1]['name']}", flush=True)

    in_parallel(numbers, one)
    left = [number for number, outcome in outcomes.items() if not outcome.startswith("seen")]
    print(f"\n{len(outcomes)} of {len(faults) - len(without)} faults were switched on, {len(without)} do not compile so. Not seen: {len(left)}")
    for number in sorted(left):
        print(f"  {outcomes[number]}: {faults[number - 1]['name']}")


main()

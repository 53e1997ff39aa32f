"""Reads a file that somebody else works on, until it is told to stop; then says how often.

usage: others.py FILE, as scripts/conformance calls it. An error that such a reader must not see ends it with status 1.
"""

import os, signal, sys, time

path, reads, is_over = sys.argv[1], 0, False


def stop(*_):
    global is_over
    is_over = True


signal.signal(signal.SIGTERM, stop)
while not is_over:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for offset in range(0, size, 65536):
                os.pread(file.fileno(), 65536, offset)
            os.stat(path)
            os.listdir(os.path.dirname(path))
            reads += 1
    except FileNotFoundError:
        # fsx has not made it yet.
        pass
    except OSError as error:
        print(error)
        sys.exit(1)
    # It is there to disturb, and not to take the machine.
    time.sleep(0.01)
print(f"read {reads} times meanwhile")

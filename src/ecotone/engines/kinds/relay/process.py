"""Stands between a relay and a command that it started: the command ends with the relay, however that one ends.

Spec: `command` (list), `environment` (all its variables). Message: `{"pid": number}`. Its status is the command's.
"""

import os
import signal
import subprocess
import sys

from ecotone.jobs.child_side import receive


def main() -> int:
    spec, report = receive()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # sent to the whole group: the command ends by it, and we after it
    try:
        process = subprocess.Popen(spec["command"], env=spec["environment"], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{spec['command'][0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    report({"pid": process.pid})
    status = process.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())

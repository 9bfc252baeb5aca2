"""Children for the tests of jobs: each `python -m` of this file plays the part that its spec names."""

import os
import signal
import subprocess
import sys
import time

from ecotone.jobs.child_side import receive


def main() -> None:
    spec, report = receive()
    part = spec["part"]
    if part == "add":
        report({"progress": 0.5, "text": "adding"})
        print("a line of output", flush=True)
        report({"result": {"sum": sum(spec["numbers"])}})
    elif part == "environment":
        report({"result": dict(os.environ)})
    elif part == "stdin":
        report({"result": {"stdin": sys.stdin.read(), "session": os.getsid(0) == os.getpid()}})
    elif part == "error":
        report({"error": "the data is empty"})
        sys.exit(1)
    elif part == "crash":
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif part == "silent":
        pass
    elif part == "leaves":
        sleeping = [sys.executable, "-c", "import time; time.sleep(300)"]
        left = subprocess.Popen(sleeping, pass_fds=(int(sys.argv[1]),), start_new_session=True)
        report({"pid": left.pid})
    elif part in ("sleep", "stubborn", "parent"):
        if part == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        report({"pids": [os.getpid(), grandchild.pid]})
        time.sleep(300)


main()

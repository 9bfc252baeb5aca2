"""The command line as `ecotone ARGV` runs it, in this process: a command is asked a hundred times in the time of ten.

What only a process of its own shows (`up`, signals, what a shell sees) is started as one: `Running.cli(alone=True)`.
"""

import contextlib
import io
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

ALONE = ("up", "restart", "gateway", "traces", "fsck")
"""Commands that are processes: they take signals, start others, or lock a data folder."""


def run(argv: tuple[str, ...], env: dict[str, str], cwd: Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Its exit status, stdout and stderr. For the main thread: the process has one environment and one folder."""
    from ecotone.cli import main

    assert threading.current_thread() is threading.main_thread()
    out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    status = 0
    with (
        _in_place_of_ours(["ecotone", *argv], env, cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        ours, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                error.write(ended.code + "\n")
        except Exception:
            traceback.print_exc()
            status = 1
        finally:
            sys.stdin = ours
    told = [made.buffer.getvalue().decode() for made in (out, error)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(list(argv), status, *told)


@contextlib.contextmanager
def _in_place_of_ours(argv: list[str], env: dict[str, str], cwd: Path) -> Iterator[None]:
    ours, our_env, our_folder = sys.argv, dict(os.environ), Path.cwd()
    sys.argv = argv
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    try:
        yield
    finally:
        sys.argv = ours
        os.environ.clear()
        os.environ.update(our_env)
        os.chdir(our_folder)

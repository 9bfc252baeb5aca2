"""ScanCode's engine as a second opinion, in a child process that is given paths and answers with expressions.

The engine pins other versions of common packages than we use, and is large: it may live in an environment of its own,
whose interpreter is then named. Nothing of it is ever imported into this process.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ecotone.vocabulary import EcotoneError

CHILD = Path(__file__).with_name("scancode_child.py")
HOW_TO = (
    'ScanCode is not installed here. Either: pip install "ecotone[detect]"; or give it an environment of its own: '
    "python -m venv scancode && scancode/bin/pip install scancode-toolkit-mini typecode-libmagic pluggy==1.5.0, "
    "and set ECOTONE_SCANCODE_PYTHON=scancode/bin/python"
)
_START_SECONDS = 120
_FILE_SECONDS = 20
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "TEMP", "TMP")


class SecondOpinionFailed(EcotoneError):
    """The engine is absent, did not start, or did not answer."""


class Opinion(msgspec.Struct, frozen=True):
    """What the other engine says of a file: ids with their best score (0 to 100), and how long it took."""

    path: str
    ids: dict[str, float]
    seconds: float
    engine: str
    error: str | None = None


def interpreter(named: str | None = None) -> str:
    """The Python that has the engine: the one named, else this one.

    Raises:
        SecondOpinionFailed: none is named and the engine is not installed here; the message says what to run.
    """
    if named:
        return named
    if importlib.util.find_spec("licensedcode") is None:
        raise SecondOpinionFailed(HOW_TO)
    return sys.executable


def second_opinion(paths: Sequence[Path], *, python: str | None = None) -> list[Opinion]:
    """Opinions on files, in their order; a file that the engine could not read has `error`.

    Raises:
        SecondOpinionFailed: see its message.
    """
    executable = interpreter(python)
    environment = {k: v for k, v in os.environ.items() if k in _KEPT}
    try:
        child = subprocess.run(
            [executable, "-I", str(CHILD)],
            input=msgspec.json.encode([str(p.absolute()) for p in paths]),
            capture_output=True,
            env=environment,
            timeout=_START_SECONDS + _FILE_SECONDS * len(paths),
            check=False,
        )
    except OSError as error:
        raise SecondOpinionFailed(f"{executable} cannot be started: {error.strerror}. {HOW_TO}") from None
    except subprocess.TimeoutExpired as error:
        raise SecondOpinionFailed(f"ScanCode did not answer within {error.timeout:.0f} s.") from None
    if child.returncode == 3:
        raise SecondOpinionFailed(HOW_TO)
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SecondOpinionFailed(f"ScanCode ended with status {child.returncode}: {' '.join(last)[:300]}")
    return list(_answers(child.stdout.splitlines()))


def _answers(lines: Iterable[bytes]) -> Iterable[Opinion]:
    for line in lines:
        if line.startswith(b"{"):
            try:
                yield msgspec.json.decode(line, type=Opinion)
            except msgspec.DecodeError:
                raise SecondOpinionFailed("ScanCode's answer could not be read.") from None

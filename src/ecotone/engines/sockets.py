"""The private folder of the engines' Unix sockets, whose paths must fit in 107 bytes."""

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

_LONGEST_PATH = 107  # of sun_path, without its final zero byte
_NAME_BYTES = 24


class Sockets:
    """Makes socket paths in `folder`, or, when that is too long, in a folder of our own in the temporary one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder if _fits(folder) else _short(folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove the sockets of engines that ended with an earlier server; none of another server may be alive."""
        for left in self._folder.glob("*.sock"):
            left.unlink(missing_ok=True)

    def new(self) -> Path:
        """A path that no engine has used before, so that a client never meets a stranger on an old one."""
        return self._folder / f"{secrets.token_hex(8)}.sock"

    @staticmethod
    def drop(path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) + _NAME_BYTES <= _LONGEST_PATH


def _short(folder: Path) -> Path:
    """The same short folder for the same long one, if nobody else has put something there; else a fresh one."""
    root = Path(tempfile.gettempdir())
    if not _fits(root / "ecotone-0123456789abcdef"):
        root = Path("/tmp")  # noqa: S108  the folder below it is private and checked
    wanted = root / f"ecotone-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]}"
    with contextlib.suppress(OSError):
        wanted.mkdir(mode=0o700)
    found = wanted.lstat() if wanted.is_symlink() or wanted.exists() else None
    if found and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return wanted
    return Path(tempfile.mkdtemp(prefix="ecotone-", dir=root))

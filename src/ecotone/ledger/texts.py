"""Prompts and answers that a project wants kept: encrypted, one file for each project and day, gone after their time.

`<folder>/<project>/<day>` holds lines `<request id> <base64 of nonce and ciphertext>` (AES-256-GCM; the request's id,
project and day are authenticated with it). A project's key is HKDF-SHA256 over the installation's secret with a salt of
the project's own, which lies among the secrets, apart from the texts: once that is destroyed nobody reads them again,
not even from a copy.
"""

import base64
import binascii
import contextlib
import logging
import os
import queue
import re
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ecotone.settings import Settings

log = logging.getLogger("ecotone.ledger")

_LABEL = b"ecotone kept texts, key of one project|"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NONCE = 12


class Unreadable(Exception):
    """A text is there and its key does not open it: it was changed, or the key was destroyed."""


class Texts:
    """Keeps and reads texts.

    Args:
        folder: for the texts.
        keys: for the projects' salts; not below `folder`.
        secret: of the installation, for this purpose alone.
        most: bytes that may wait to be written; what comes then is dropped.
    """

    def __init__(self, folder: Path, keys: Path, secret: bytes, *, most: int = 32 * 1024 * 1024) -> None:
        self._folder = folder
        self._keys = keys
        self._secret = secret
        self._most = most
        self._waiting = 0
        self._queue: queue.SimpleQueue[tuple[str, str, bytes, float] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ciphers: dict[str, tuple[bytes, AESGCM]] = {}
        self._thread: threading.Thread | None = None
        self.dropped = 0

    @classmethod
    def of(cls, settings: Settings) -> "Texts":
        """The texts of an installation, for each of its processes."""
        secret = settings.secret("texts-key")
        return cls(settings.data / "texts", settings.data / "secrets" / "texts", secret)

    # -- keeping -----------------------------------------------------------------------------------------------------
    def keep(self, project: str, request_id: str, text: bytes) -> bool:
        """Have a text written soon, by a thread; no disk is waited for.

        Args:
            project: one that asked for it; whether it did is the caller's to know.
            text: JSON: what went in, what came out.

        Returns:
            False when too much is waiting: nothing is kept, and the request's record says `texts: dropped`.
        """
        size = len(text) + 256
        with self._lock:
            if self._waiting + size > self._most:
                self.dropped += 1
                return False
            self._waiting += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="texts", daemon=True)
                self._thread.start()
        self._queue.put((project, request_id, text, time.time()))
        return True

    def _write_all(self) -> None:
        while (found := self._queue.get()) is not None:
            project, request_id, text, at = found
            try:
                self._write(project, request_id, text, at)
            except Exception:  # whatever it is, the next text may be written
                log.exception("a text of %s could not be kept", request_id)
            with self._lock:
                self._waiting -= len(text) + 256

    def _write(self, project: str, request_id: str, text: bytes, at: float) -> None:
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        folder = self._project(project)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._cipher(project, make=True).encrypt(nonce, text, _told(project, day, request_id))
        line = b"\n%b %b\n" % (request_id.encode(), base64.b64encode(nonce + sealed))
        descriptor = os.open(folder / day, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            written = os.write(descriptor, line)
            while written < len(line):
                written += os.write(descriptor, line[written:])
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Write what waits, then end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(10)
            self._thread = None

    # -- reading -----------------------------------------------------------------------------------------------------
    def read(self, request_id: str, project: str | None = None) -> list[dict[str, Any]]:
        """The texts of a request, each with `project`, `day` and `text`; empty when none is kept.

        Raises:
            Unreadable: one is there that its key does not open.
        """
        needle = f"{request_id} ".encode()
        found: list[dict[str, Any]] = []
        for name in [project] if project is not None else self.projects():
            for file in self._days(name):
                with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:  # its days were over meanwhile
                    for line in lines:
                        if line.startswith(needle):
                            text = self._opened(name, file.name, request_id, line[len(needle) :].strip())
                            found.append({"project": name, "day": file.name, "text": text})
        return found

    def files(self, project: str) -> list[Path]:
        """The files with a project's texts, one a day, in order; each named by its day."""
        return self._days(project) if _NAME.fullmatch(project) else []

    def at(self, project: str, request_id: str, day: str, offset: int, size: int) -> Any:
        """The text whose ciphertext lies at a place of a day's file; None when the file is gone.

        Raises:
            Unreadable: its key does not open it.
        """
        try:
            with (self._project(project) / day).open("rb") as file:
                file.seek(offset)
                sealed = file.read(size).strip()
        except FileNotFoundError:
            return None
        return self._opened(project, day, request_id, sealed)

    def _opened(self, project: str, day: str, request_id: str, sealed: bytes) -> Any:
        try:
            raw = base64.b64decode(sealed, validate=True)
            cipher = self._cipher(project, make=False)
            plain = cipher.decrypt(raw[:_NONCE], raw[_NONCE:], _told(project, day, request_id))
        except (InvalidTag, FileNotFoundError, binascii.Error, ValueError):
            raise Unreadable(
                f"A text of {request_id} is kept, but the key of the project {project} does not open it: it was "
                "changed, or the key was destroyed."
            ) from None
        try:
            return msgspec.json.decode(plain)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return plain.decode("utf-8", "replace")

    # -- forgetting --------------------------------------------------------------------------------------------------
    def expire(self, days: Mapping[str, int], *, today: date | None = None) -> dict[str, int]:
        """Delete files older than their project's days; returns how many of each project.

        Args:
            days: for how many days each project keeps texts; of a project that is not named, none stay.
        """
        today = today or datetime.now(UTC).date()
        removed: dict[str, int] = {}
        for project in self.projects():
            oldest = today - timedelta(days=days.get(project, 0)) if days.get(project, 0) < 100_000 else date.min
            for file in self._days(project):
                if days.get(project, 0) <= 0 or date.fromisoformat(file.name) < oldest:
                    file.unlink(missing_ok=True)
                    removed[project] = removed.get(project, 0) + 1
        return removed

    def destroy(self, project: str) -> int:
        """Erase a project's texts: first the key, so that no copy can be read either, then the files.

        Returns:
            how many days are gone.
        """
        with self._lock:
            self._ciphers.pop(project, None)
        salt = self._keys / self._project(project).name
        with contextlib.suppress(FileNotFoundError):
            size = salt.stat().st_size
            with salt.open("r+b") as file:
                file.write(secrets.token_bytes(size))
                file.flush()
                os.fsync(file.fileno())
            salt.unlink()
        gone = self._days(project)
        for day in gone:
            day.unlink(missing_ok=True)
        return len(gone)

    def projects(self) -> list[str]:
        """Projects of which texts are kept."""
        return sorted(f.name for f in self._folder.iterdir() if f.is_dir()) if self._folder.is_dir() else []

    def _days(self, project: str) -> list[Path]:
        folder = self._project(project)
        return sorted(f for f in folder.iterdir() if _DAY.fullmatch(f.name)) if folder.is_dir() else []

    def _project(self, project: str) -> Path:
        if not _NAME.fullmatch(project):
            raise ValueError(f"{project!r} is no name of a project")
        return self._folder / project

    def _cipher(self, project: str, *, make: bool) -> AESGCM:
        salt = self._salt(project, make=make)
        known = self._ciphers.get(project)
        if known is None or known[0] != salt:  # destroyed and made anew, by this process or another
            key = HKDF(SHA256(), 32, salt, _LABEL + project.encode()).derive(self._secret)
            known = self._ciphers[project] = (salt, AESGCM(key))
        return known[1]

    def _salt(self, project: str, *, make: bool) -> bytes:
        path = self._keys / self._project(project).name
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                return path.read_bytes()
            if not make:
                raise FileNotFoundError(path)
            self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process made it first: read that one
                os.link(draft, path)
            draft.unlink(missing_ok=True)
        raise FileNotFoundError(path)


def _told(project: str, day: str, request_id: str) -> bytes:
    return f"{project}|{day}|{request_id}".encode()

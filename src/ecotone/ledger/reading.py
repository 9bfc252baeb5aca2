"""Reading and verifying a ledger from its files, while it is being written or long after."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ecotone.ledger import records
from ecotone.ledger.records import GENESIS, Head

_MOST_PROBLEMS = 20


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A place where a chain does not hold: segment file, record number, byte offset of the record in the file."""

    segment_file: str
    record: int
    offset: int
    what: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    records: int
    segments: int
    checkpoints: int
    problems: tuple[Problem, ...] = ()


def segments(folder: Path) -> list[Path]:
    """The segment files of one chain in order."""
    return sorted(f for f in folder.glob("*.jsonl") if f.stem.isdigit())


class Ledger:
    """All chains below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def chains(self) -> list[Path]:
        return sorted(f for f in self._folder.iterdir() if f.is_dir()) if self._folder.is_dir() else []

    def records(self, *kinds: str, newest_first: bool = False) -> Iterator[dict[str, Any]]:
        """Records of these kinds (all when none is named), chain by chain; torn and foreign lines are passed over."""
        wanted = [f'"kind":"{kind}"'.encode() for kind in kinds]
        for chain in self.chains():
            files = segments(chain)
            for segment in reversed(files) if newest_first else files:
                with segment.open("rb") as file:
                    lines = file.readlines() if newest_first else file
                    for line in reversed(lines) if isinstance(lines, list) else lines:
                        if not wanted or any(word in line for word in wanted):
                            found = _decoded(line)
                            if found is not None and (not kinds or found.get("kind") in kinds):
                                yield found

    def find(self, request_id: str) -> list[dict[str, Any]]:
        """All records of one request, in the order in which they were written."""
        needle = f'"request_id":"{request_id}"'.encode()
        found: list[dict[str, Any]] = []
        for chain in self.chains():
            for segment in reversed(segments(chain)):
                with segment.open("rb") as file:
                    here = [r for line in file if needle in line and (r := _decoded(line)) is not None]
                found = here + found
                if any(r["kind"] in ("opened", "refused") for r in here):
                    break
        return [r for r in found if r.get("request_id") == request_id]

    def heads(self, *, besides: str = "") -> dict[str, Head]:
        """Length and last hash of every chain but one, as their files say."""
        found = {}
        for chain in self.chains():
            if chain.name == besides:
                continue
            for segment in reversed(segments(chain)):
                last = None
                with segment.open("rb") as file:
                    for line in file:
                        last = _decoded(line) or last
                if last is not None:
                    found[chain.name] = Head(records=last["n"], hash=last["hash"])
                    break
        return found

    def verify(self, heads: Mapping[str, Head] | None = None, key: bytes | None = None) -> Report:
        """Check every hash, every link, every number, the signed checkpoints, and the heads known from elsewhere.

        Args:
            heads: lengths and hashes that the chains must at least have, from the database: a cut tail fails.
            key: public signing key (32 bytes); without it signatures are not checked.
        """
        check = _Check(self._folder, key)
        known = dict(heads or {})
        for chain in self.chains():
            check.chain(chain, known.pop(chain.name, None))
        for writer, head in known.items():
            check.problem(
                f"{writer}/000001.jsonl", 1, 0, f"the whole chain is missing; {head.records} records are known"
            )
        return Report(
            ok=not check.problems,
            records=check.records,
            segments=check.segments,
            checkpoints=check.checkpoints,
            problems=tuple(check.problems[:_MOST_PROBLEMS]),
        )


class _Check:
    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._folder = folder
        self._key = Ed25519PublicKey.from_public_bytes(key) if key else None
        self.problems: list[Problem] = []
        self.records = self.segments = self.checkpoints = 0
        self._seen: dict[str, dict[int, str]] = {}
        self._promised: list[tuple[str, int, int, dict[str, Any]]] = []

    def problem(self, file: str, record: int, offset: int, what: str) -> None:
        self.problems.append(Problem(segment_file=file, record=record, offset=offset, what=what))

    def chain(self, chain: Path, head: Head | None) -> None:
        number, prev = 0, GENESIS
        seen: str | None = None
        files = segments(chain)
        for position, segment in enumerate(files, start=1):
            name = f"{chain.name}/{segment.name}"
            self.segments += 1
            if int(segment.stem) != position:
                self.problem(name, number + 1, 0, f"segment {position:06d} is missing before this one")
                return
            offset = 0
            for line in _lines(segment, last=position == len(files)):
                parts = records.split(line)
                if parts is None:
                    self.problem(name, number + 1, offset, "the line is not a record, or its end was changed")
                    return
                body, claimed = parts
                if records.digest_of(body) != claimed:
                    self.problem(name, number + 1, offset, "the record was changed: its hash does not fit its bytes")
                    return
                found = _decoded(line)
                if found is None or found.get("n") != number + 1 or found.get("prev") != prev:
                    self.problem(name, number + 1, offset, "the record does not follow the one before it")
                    return
                number, prev = number + 1, claimed
                self.records += 1
                if found["kind"] == "checkpoint":
                    self._checkpoint(name, number, offset, found)
                if head is not None and number == head.records:
                    seen = claimed
                offset += len(line)
        if head is not None and number < head.records:
            name = f"{chain.name}/{files[-1].name}" if files else f"{chain.name}/000001.jsonl"
            size = files[-1].stat().st_size if files else 0
            self.problem(
                name, number + 1, size, f"the chain was cut: {head.records} records are known, {number} are here"
            )
        elif head is not None and seen != head.hash:
            self.problem(
                f"{chain.name}/{files[-1].name}", head.records, 0, "the chain was replaced: another head is known"
            )

    def _checkpoint(self, name: str, number: int, offset: int, found: dict[str, Any]) -> None:
        self.checkpoints += 1
        heads = {writer: Head(**head) for writer, head in found["heads"].items()}
        if records.merkle_root(heads) != found["root"]:
            self.problem(name, number, offset, "the checkpoint's root does not fit its heads")
        elif self._key is not None:
            try:
                self._key.verify(bytes.fromhex(found["signature"]), found["root"].encode())
            except (InvalidSignature, ValueError):
                self.problem(name, number, offset, "the checkpoint was not signed by this installation")


def _lines(segment: Path, *, last: bool) -> Iterator[bytes]:
    """Lines of a segment. A line without an end is waited for a moment: its writer may be in the middle of it."""
    with segment.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") or not last:
                yield line
                continue
            for _ in range(20):
                time.sleep(0.01)
                line += file.readline()
                if line.endswith(b"\n"):
                    break
            yield line


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None

"""Whether the chains of a ledger are whole, and if not, the place. Trusts nothing that stands in the files.

Three things hold a chain: the hashes within it, the signed checkpoints that name all heads (so that a chain cannot be
made anew without the key), and the heads kept elsewhere (so that a cut tail shows).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ecotone.ledger import records
from ecotone.ledger.records import GENESIS, Head
from ecotone.ledger.retiring import Retired, retired
from ecotone.ledger.segments import segments
from ecotone.ledger.spilling import number_of

_MOST_PROBLEMS = 20
_LOOKS, _LOOK_SECONDS = 100, 0.01


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


class _Promise(msgspec.Struct, frozen=True):
    """A head that somebody names: what the chain's hash at that length must be, and where to complain."""

    hash: str
    by: Problem | None


class _Checkpoint(msgspec.Struct, frozen=True):
    heads: dict[str, Head]
    root: str
    signature: str


class _Place(msgspec.Struct):
    """Where the check of a chain stands."""

    file: str
    number: int = 0
    offset: int = 0
    prev: str = GENESIS

    def problem(self, what: str) -> Problem:
        return Problem(segment_file=self.file, record=self.number + 1, offset=self.offset, what=what)


def verify(
    chains: Sequence[Path],
    heads: Mapping[str, Head],
    key: bytes | None,
    *,
    beyond: Mapping[str, Sequence[Path]] | None = None,
) -> Report:
    """Verify chains against known heads and, with the public key, their checkpoints' signatures.

    Args:
        beyond: files outside of a chain's folder with its end, by writer.

    Raises:
        FileNotFoundError: for a file that was removed meanwhile, as its records were exported, or moved to the chain.
    """
    check = _Check(key, beyond or {})
    for writer, head in heads.items():
        check.promise(writer, head, None)
    for chain in chains:
        check.checkpoints_of(chain)
    for chain in chains:
        check.chain(chain)
    check.chains_missing({chain.name for chain in chains})
    return Report(
        ok=not check.problems,
        records=check.records,
        segments=check.segments,
        checkpoints=check.checkpoints,
        problems=tuple(check.problems[:_MOST_PROBLEMS]),
    )


class _Check:
    def __init__(self, key: bytes | None, beyond: Mapping[str, Sequence[Path]]) -> None:
        self._beyond = beyond
        self._key = Ed25519PublicKey.from_public_bytes(key) if key else None
        self._promised: dict[str, dict[int, list[_Promise]]] = {}
        self.problems: list[Problem] = []
        self.records = self.segments = self.checkpoints = 0

    def promise(self, writer: str, head: Head, by: Problem | None) -> None:
        self._promised.setdefault(writer, {}).setdefault(head.records, []).append(_Promise(head.hash, by))

    def checkpoints_of(self, chain: Path) -> None:
        """Note what the checkpoints of a chain promise about all chains."""
        for segment in [*segments(chain), *self._beyond.get(chain.name, ())]:
            offset = 0
            with segment.open("rb") as file:
                for line in file:
                    if b'"kind":"checkpoint"' in line and records.head_of(line) is not None:
                        found = _as_checkpoint(records.decoded(line))
                        place = Problem(segment_file=_name(segment), record=0, offset=offset, what="")
                        for writer, head in found.heads.items() if found is not None else ():
                            self.promise(writer, head, place)
                    offset += len(line)

    def chain(self, chain: Path) -> None:
        """Follow one chain from its first record to its end or its first break."""
        place, number = _Place(file=f"{chain.name}/000001.jsonl"), 0
        gone = retired(chain)
        if gone is not None and not (chain / "000001.jsonl").is_file():
            if not self._begins_behind(gone, place):
                return
            number = gone.segment
        last = None
        while (later := _after(chain, number)) is not None:
            # a living writer may have gone on in the last one after its end was read, but no more once there is a later
            if last is not None and not all(self._follows(line, place) for line in _lines(last, place.offset)):
                return
            segment = chain / f"{number + 1:06d}.jsonl"
            if not segment.is_file():
                if retired(chain) != gone:
                    raise FileNotFoundError(f"{_name(segment)} was removed after its export")
                place.file, place.offset = _name(later), 0
                self.problems.append(place.problem(f"segment {segment.name} is missing before this one"))
                return
            place.file, place.offset = _name(segment), 0
            self.segments += 1
            if not all(self._follows(line, place) for line in _lines(segment)):
                return
            last, number = segment, number + 1
        for file in self._beyond.get(chain.name, ()):
            place.file, place.offset = _name(file), 0
            for line in _lines(file):
                if number_of(line) <= place.number:  # moved to the chain meanwhile
                    place.offset += len(line)
                elif not self._follows(line, place):
                    return
        self._ended(chain.name, place)

    def _begins_behind(self, gone: Retired, place: _Place) -> bool:
        """Begin behind segments that were removed after their export; False when that is not signed."""
        if self._key is not None and not gone.is_signed_by(self._key):
            self.problems.append(place.problem("earlier segments are missing, and their removal was not signed here"))
            return False
        promised = self._promised.get(gone.writer, {})
        for number in [n for n in promised if n <= gone.head.records]:
            for promise in promised.pop(number):
                if number == gone.head.records and promise.hash != gone.head.hash:
                    self.problems.append(place.problem(f"the chain was replaced: {_source(promise)} another record"))
        place.number, place.prev = gone.head.records, gone.head.hash
        return True

    def chains_missing(self, present: set[str]) -> None:
        for writer in self._promised.keys() - present:
            self._ended(writer, _Place(file=f"{writer}/000001.jsonl"))

    def _follows(self, line: bytes, place: _Place) -> bool:
        """Check one record and step behind it; False when the chain breaks here."""
        parts = records.split(line)
        if parts is None:
            self.problems.append(place.problem("the line is not a record, or its end was changed"))
            return False
        body, claimed = parts
        if records.digest_of(body) != claimed:
            self.problems.append(place.problem("the record was changed: its hash does not fit its bytes"))
            return False
        found = records.decoded(line)
        if found is None or found.get("n") != place.number + 1 or found.get("prev") != place.prev:
            self.problems.append(place.problem("the record does not follow the one before it"))
            return False
        if found["kind"] == "checkpoint":
            self._checkpoint(found, place)
        writer, number = place.file.partition("/")[0], place.number + 1
        for promise in self._promised.get(writer, {}).pop(number, ()):
            if promise.hash != claimed:
                self.problems.append(place.problem(f"the chain was replaced: {_source(promise)} another record here"))
        place.number, place.prev, place.offset = number, claimed, place.offset + len(line)
        self.records += 1
        return True

    def _ended(self, writer: str, place: _Place) -> None:
        """What is still promised lies behind the end: the tail was cut."""
        left = self._promised.get(writer)
        if left:
            most = max(left)
            what = f"the chain was cut: {_source(left[most][0])} {most} records, {place.number} are here"
            self.problems.append(place.problem(what))

    def _checkpoint(self, found: dict[str, Any], place: _Place) -> None:
        self.checkpoints += 1
        told = _as_checkpoint(found)
        if told is None:
            self.problems.append(place.problem("the checkpoint is not of the form"))
        elif records.merkle_root(told.heads) != told.root:
            self.problems.append(place.problem("the checkpoint's root does not fit its heads"))
        elif self._key is not None:
            try:
                self._key.verify(bytes.fromhex(told.signature), told.root.encode())
            except (InvalidSignature, ValueError):
                self.problems.append(place.problem("the checkpoint was not signed by this installation"))


def _as_checkpoint(found: dict[str, Any] | None) -> _Checkpoint | None:
    try:
        return msgspec.convert(found, _Checkpoint)
    except msgspec.ValidationError:
        return None


def _source(promise: _Promise) -> str:
    if promise.by is None:
        return "the database knows"
    return f"the checkpoint in {promise.by.segment_file} at byte {promise.by.offset} names"


def _name(segment: Path) -> str:
    return f"{segment.parent.name}/{segment.name}"


def _after(chain: Path, number: int) -> Path | None:
    """The first segment that is there behind the one of a number; that is nearly always the next."""
    following = chain / f"{number + 1:06d}.jsonl"
    return following if following.is_file() else next((f for f in segments(chain) if int(f.stem) > number), None)


def _lines(segment: Path, offset: int = 0) -> Iterator[bytes]:
    """Lines of a segment from a place on.

    A line without an end is waited for a moment: its writer may be in the middle of it.
    """
    with segment.open("rb") as file:
        file.seek(offset)
        for line in file:
            whole, looks = line, 0
            while not whole.endswith(b"\n") and looks < _LOOKS:  # counted, as we may be stopped for longer than that
                time.sleep(_LOOK_SECONDS)
                whole += file.readline()
                looks += 1
            yield whole

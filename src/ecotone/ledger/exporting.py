"""An export: a file of JSON lines that proves itself without the server.

    {"export":1,"made":...,"since":...,"until":...,"project":null,"key":"<hex>"}
    {"chain":"server","behind":{"records":6,"hash":"<64 hex>"}}
    {"n":7,"at":...}                       records, byte for byte as they stand in the chain
    {"skip":{"records":9,"hash":...}}      records up to this one are left out; only when a project was asked for
    {"proof":true}                         what follows in this chain is only the way to the checkpoint's head
    {"checkpoint":"<the record's line>"}   names the head of each chain, signed by the installation
    {"aside":"<a ruling's line>"}          a decision that a record names and that stands before them
    {"end":{"lines":30,"sha256":"<of all bytes before>","signature":"<Ed25519 over it>"}}

Without a project every record is linked by its hash up to a signed checkpoint: none can be changed, added or left out
between the first and the last. With one, each record is whole by its own hash and has its number; that what was left
out is of others rests on the signature under the file.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ecotone.ledger import records
from ecotone.ledger.reading import Ledger
from ecotone.ledger.records import GENESIS, Head
from ecotone.ledger.retiring import closed, retired
from ecotone.ledger.spilling import NAME, number_of
from ecotone.ledger.writing import public_key

FORMAT = 1
_LATEST = "9999"


class Export:
    """One export, to be iterated once.

    Args:
        seed: of the installation's signing key.
        since: `at` of the first record, e.g. `2026-11-01T00:00:00Z`; empty for all.
        until: `at` that is not reached; empty for all. A checkpoint must have been signed since.
        project: only its records.
        made: this moment, for the head of the file.

    `whole` names, once it was iterated, closed segments of which every record is in it, and `sha256` the file.
    """

    def __init__(
        self,
        ledger: Ledger,
        seed: bytes,
        *,
        since: str = "",
        until: str = "",
        project: str | None = None,
        made: str = "",
    ) -> None:
        self._ledger = ledger
        self._seed = seed
        self._since = since
        self._until = until or _LATEST
        self._project = project
        self._made = made
        self._requests: set[str] = set()
        self._named: set[str] = set()
        self._told: set[str] = set()
        self.whole: list[tuple[str, int]] = []
        self.sha256 = ""
        self.lines = 0

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        count = 0
        for line in self._content():
            digest.update(line)
            count += 1
            yield line
        signature = Ed25519PrivateKey.from_private_bytes(self._seed[:32]).sign(statement(digest.hexdigest()))
        last = _line({"end": {"lines": count, "sha256": digest.hexdigest(), "signature": signature.hex()}})
        digest.update(last)
        yield last
        self.sha256, self.lines = digest.hexdigest(), count + 1

    def _content(self) -> Iterator[bytes]:
        yield _line(
            {
                "export": FORMAT,
                "made": self._made,
                "since": self._since or None,
                "until": None if self._until == _LATEST else self._until,
                "project": self._project,
                "key": public_key(self._seed).hex(),
            }
        )
        signed = self._checkpoint()
        heads = _heads(signed) if signed is not None else {}
        for chain in self._ledger.chains():
            yield from self._chain(chain, heads.get(chain.name))
        if signed is not None:
            yield _line({"checkpoint": signed.decode()})
        yield from self._asides()

    def _checkpoint(self) -> bytes | None:
        """The first checkpoint behind the period, else the newest."""
        newest: bytes | None = None
        newest_at = ""
        for chain in self._ledger.chains():
            for path, lines in self._ledger.pieces(chain):
                for line in lines if path.name != NAME else ():
                    if b'"kind":"checkpoint"' not in line or records.head_of(line) is None:
                        continue
                    at = _at(line)
                    inside, better = at >= self._until, newest_at >= self._until
                    if newest is None or (at < newest_at if inside and better else at > newest_at and not better):
                        newest, newest_at = line, at
        return newest

    def _chain(self, chain: Path, covered: Head | None) -> Iterator[bytes]:
        gone = retired(chain)
        place = gone.head if gone is not None else Head(records=0, hash=GENESIS)
        last = covered.records if covered is not None else 0
        begun, proof, skipped = False, False, False
        finished = set(closed(chain))
        for segment, file in self._ledger.opened(chain):
            left_out = False
            for line in file:
                parts = records.split(line)
                if parts is None or place.records >= last:
                    left_out = True
                    break
                if number_of(line) <= place.records:  # moved from the second folder
                    continue
                if number_of(line) > place.records + 1 and (now := retired(chain)) is not None and now != gone:
                    if begun:
                        raise FileNotFoundError(f"segments of {chain.name} were removed while they were exported")
                    gone, place = now, now.head
                behind, place = place, Head(records=place.records + 1, hash=parts[1])
                at = _at(line)
                wanted = self._since <= at < self._until and self._is_asked(line)
                if not wanted and not (begun and self._project is None):
                    left_out = True
                    skipped = begun
                    if begun and place.records == last:
                        yield _line({"skip": msgspec.to_builtins(place)})
                    continue
                if not begun:
                    begun = True
                    yield _line({"chain": chain.name, "behind": msgspec.to_builtins(behind)})
                elif skipped:
                    yield _line({"skip": msgspec.to_builtins(behind)})
                skipped = False
                if not wanted and at >= self._until and not proof:
                    proof = True
                    yield _line({"proof": True})
                yield line
            if not left_out and segment in finished:
                self.whole.append((chain.name, int(segment.stem)))

    def _is_asked(self, line: bytes) -> bool:
        if self._project is None and b'"ruling":' not in line:
            return True
        record = records.decoded(line)
        if record is None:
            return False
        if record["kind"] == "ruling":
            if self._project is None:
                self._told.add(str(record.get("id")))
            return self._project is None  # others' decisions are not this project's; its own stand at the end
        request_id = record.get("request_id")
        asked = self._project is None or record.get("project") == self._project or request_id in self._requests
        if asked and isinstance(record.get("ruling"), str):
            self._named.add(record["ruling"])
        if asked and isinstance(request_id, str) and self._project is not None:
            (self._requests.discard if record["kind"] == "settled" else self._requests.add)(request_id)
        return asked

    def _asides(self) -> Iterator[bytes]:
        """Decisions that the records name and that were written before the first of them."""
        for ruling in sorted(self._named - self._told):
            content = self._ledger.ruling(ruling)
            if content is not None:
                yield _line({"aside": {"id": ruling, "ruling": content.decode()}})


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _at(line: bytes) -> str:
    start = line.find(b'"at":"') + 6
    return line[start : line.find(b'"', start)].decode("latin-1")


def _heads(line: bytes) -> dict[str, Head]:
    try:
        return msgspec.convert((records.decoded(line) or {}).get("heads"), dict[str, Head])
    except msgspec.ValidationError:
        return {}


def statement(sha256: str) -> bytes:
    return f"ecotone export|{sha256}".encode()

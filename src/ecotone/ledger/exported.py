"""Whether an export is what an installation signed: read from the file alone, trusting nothing in it but the key."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ecotone.ledger import records
from ecotone.ledger.documents import bytes_of
from ecotone.ledger.exporting import statement
from ecotone.ledger.records import Head
from ecotone.ledger.rulings import id_of

_MOST_PROBLEMS = 20


class ExportReport(msgspec.Struct, kw_only=True):
    """What an export holds. `key` is the public key that signed it; `problems` name lines, counted from 1."""

    ok: bool = False
    records: int = 0
    chains: int = 0
    project: str | None = None
    since: str | None = None
    until: str | None = None
    made: str | None = None
    key: str = ""
    sha256: str = ""
    problems: list[str] = []


def verify_export(path: Path, key: bytes | None = None) -> ExportReport:
    """Check an export.

    Args:
        key: the installation's public key, known from elsewhere; else the one that the file names, which proves only
            that one key signed all of it.
    """
    check = _Check(key)
    with path.open("rb") as file:
        for line in file:
            check.line(line)
            if len(check.report.problems) >= _MOST_PROBLEMS:
                break
    check.ended()
    check.report.ok = not check.report.problems
    return check.report


class _Check:
    def __init__(self, key: bytes | None) -> None:
        self.report = ExportReport()
        self._key = Ed25519PublicKey.from_public_bytes(key) if key is not None else None
        self._given = key
        self._digest = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._number = 0
        self._writer = ""
        self._place = Head(records=0, hash="")
        self._ends: dict[str, Head] = {}
        self._signed: dict[str, Head] = {}
        self._ended = False

    def _bad(self, what: str) -> None:
        self.report.problems.append(f"line {self._number}: {what}")

    def line(self, line: bytes) -> None:
        self._number += 1
        self._whole.update(line)
        if self._ended:
            self._bad("something follows the end")
            return
        found = _decoded(line)
        if found is None:
            self._bad("it is no JSON object")
        elif "n" in found:
            self._record(line, found)
        elif self._number == 1:
            self._head(found)
        elif "end" in found:
            self._end(found["end"])
            return
        else:
            self._other(found)
        self._digest.update(line)

    def _head(self, found: dict[str, Any]) -> None:
        report = self.report
        if found.get("export") != 1 or not isinstance(found.get("key"), str):
            self._bad("this is no export of a ledger, or one of another format")
            return
        for name in ("project", "since", "until", "made"):
            setattr(report, name, found.get(name))
        report.key = found["key"]
        try:
            named = bytes.fromhex(report.key)
            self._key = self._key or Ed25519PublicKey.from_public_bytes(named)
        except ValueError:
            self._bad("the key is none")
            return
        if self._given is not None and named != self._given:
            self._bad("the export was signed by another key than the one that was given")

    def _record(self, line: bytes, found: dict[str, Any]) -> None:
        parts = records.split(line)
        if parts is None or records.digest_of(parts[0]) != parts[1]:
            self._bad("the record was changed: its hash does not fit its bytes")
            return
        if found["n"] != self._place.records + 1 or found.get("prev") != self._place.hash:
            self._bad("the record does not follow the one before it")
        self._place = Head(records=found["n"], hash=parts[1])
        self._ends[self._writer] = self._place
        self.report.records += 1

    def _other(self, found: dict[str, Any]) -> None:
        try:
            if "chain" in found:
                self._writer = found["chain"]
                self._place = msgspec.convert(found["behind"], Head)
                self.report.chains += 1
            elif "skip" in found:
                skipped = msgspec.convert(found["skip"], Head)
                if self.report.project is None:
                    self._bad("records were left out, though no project was asked for")
                if skipped.records <= self._place.records:
                    self._bad("what was left out does not follow")
                self._place = self._ends[self._writer] = skipped
            elif "checkpoint" in found:
                self._checkpoint(found["checkpoint"].encode())
            elif "aside" in found:
                if id_of(found["aside"]["ruling"].encode()) != found["aside"]["id"]:
                    self._bad("the decision was changed: its id does not fit its content")
            elif "proof" not in found:
                self._bad("the line is of no known kind")
        except (msgspec.ValidationError, AttributeError, KeyError, TypeError):
            self._bad("the line is not of the form")

    def _checkpoint(self, line: bytes) -> None:
        record = records.decoded(line)
        if records.head_of(line) is None or record is None:
            self._bad("the checkpoint was changed: its hash does not fit its bytes")
            return
        heads = msgspec.convert(record["heads"], dict[str, Head])
        if records.merkle_root(heads) != record["root"]:
            self._bad("the checkpoint's root does not fit its heads")
        elif not self._is_signed(bytes.fromhex(record["signature"]), record["root"].encode()):
            self._bad("the checkpoint was not signed by this key")
        else:
            self._signed = heads

    def _is_signed(self, signature: bytes, told: bytes) -> bool:
        if self._key is None:
            return False
        try:
            self._key.verify(signature, told)
        except InvalidSignature:
            return False
        return True

    def _end(self, found: Any) -> None:
        self._ended = True
        digest = self._digest.hexdigest()
        if not isinstance(found, dict) or found.get("sha256") != digest or found.get("lines") != self._number - 1:
            self._bad("the file was changed or lines are missing: it has another sum than its end says")
            return
        try:
            signature = bytes_of(str(found.get("signature", "")))
        except ValueError:
            signature = b""
        if not self._is_signed(signature, statement(digest)):
            self._bad("the export was not signed by this key")

    def ended(self) -> None:
        self.report.sha256 = self._whole.hexdigest()
        if not self._ended:
            self._bad("the end is missing; the export broke off")
            return
        for writer, head in self._ends.items():
            if self._signed.get(writer) != head:
                self.report.problems.append(
                    f"the records of the chain {writer} do not lead to a signed checkpoint; export again in a minute"
                )


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

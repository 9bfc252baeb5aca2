"""The knowledge base: one YAML file per licence version in `entries/`, in the form of `schema.json`.

Compiled once: the wheel, or the user's cache beside a checkout, holds the same in one file that loads in milliseconds.
"""

import contextlib
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from ecotone.licences import packed
from ecotone.licences.conditions import variables
from ecotone.licences.errors import BrokenEntry, EntryNotFound

FOLDER = Path(__file__).with_name("entries")
VERSION = "2026.11.28"


# gc=False: trees of plain values, which the collector need not walk; it halves the time of loading
class Clause(msgspec.Struct, frozen=True, gc=False):
    """Where in the text a fact stands. `sha256` is of the clause's normalised words, where the text was held."""

    sec: str
    sha256: str | None = None


class Trigger(msgspec.Struct, frozen=True, gc=False):
    """When a duty arises: on these actions, on these objects, under this condition."""

    on: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    when: dict[str, Any] | None = None


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fact of a text: what it permits, prohibits, requires, limits, ends or disclaims, and where it says so."""

    id: str
    modality: str
    clause: Clause
    means: str
    action: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    when: dict[str, Any] | None = None
    unless: dict[str, Any] | None = None
    within: dict[str, Any] | None = None
    otherwise: str | None = msgspec.field(default=None, name="else")
    exempt: tuple[str, ...] = ()
    duty: str | None = None
    params: dict[str, Any] = {}
    trigger: Trigger | None = None
    confidence: str = "explicit"
    position: str | None = None
    authority: str | None = None

    @property
    def conditions(self) -> tuple[dict[str, Any] | None, ...]:
        return self.when, self.unless, self.within, self.trigger.when if self.trigger else None

    @property
    def reads(self) -> set[str]:
        """Variables that the fact depends on."""
        return set().union(*(variables(c) for c in self.conditions))


class Names(msgspec.Struct, frozen=True, gc=False):
    spdx: str | None = None
    scancode: tuple[str, ...] = ()
    hf: tuple[str, ...] = ()
    license_name: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Text(msgspec.Struct, frozen=True, gc=False):
    sha256: str | None = None
    normalised_sha256: str | None = None
    source: str | None = None
    path: str | None = None
    lang: str | None = None
    retrieved: str | None = None


class Incorporated(msgspec.Struct, frozen=True, gc=False):
    ref: str
    clause: str
    dynamic: bool = False


class Effective(msgspec.Struct, frozen=True, gc=False):
    since: str | None = msgspec.field(default=None, name="from")
    until: str | None = None


class Definitions(msgspec.Struct, frozen=True, gc=False):
    derivative_includes: tuple[str, ...] = ()
    derivative_test: str = "any"
    distribution_includes: tuple[str, ...] = ()


class Propagation(msgspec.Struct, frozen=True, gc=False):
    via: tuple[str, ...]
    what: str | tuple[str, ...] = "all"


class OutboundTerms(msgspec.Struct, frozen=True, gc=False):
    """What a text demands of the licence of a derivative."""

    derivative: str = "own_terms"
    listed: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    flow_down: tuple[str, ...] = ()
    no_further_restrictions: bool = False
    tolerates: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True, gc=False):
    authority: str
    reviewed: str
    notes: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A licence version, a provider's terms of a date, or a use policy. Keeps what was computed from it."""

    schema: int
    id: str
    title: str
    family: str
    version: str
    names: Names
    kind: str
    governs: tuple[str, ...]
    text: Text
    definitions: Definitions
    facts: tuple[Fact, ...]
    propagates: tuple[Propagation, ...]
    restricts: tuple[str, ...]
    outbound: OutboundTerms
    complete: bool
    status: Status
    incorporates: tuple[Incorporated, ...] = ()
    effective: Effective = Effective()
    supersedes: tuple[str, ...] = ()
    law: str | None = None
    revocable: str | None = None

    def authority(self, fact: Fact) -> str:
        return fact.authority or self.status.authority

    def fact(self, fact_id: str) -> Fact | None:
        return next((f for f in self.facts if f.id == fact_id), None)

    @property
    def expression(self) -> str:
        """How the entry stands in an SPDX expression."""
        return self.names.spdx or f"LicenseRef-{self.id}"


class KnowledgeBase:
    """All entries. `version` names the state of knowledge; `digest` the exact content."""

    def __init__(
        self, entries: Mapping[str, Entry], *, version: str, digest: str, positions: Mapping[str, Any]
    ) -> None:
        self.entries = MappingProxyType(dict(entries))
        self.version = version
        self.digest = digest
        self.positions = positions
        self.by_hf: dict[str, tuple[str, ...]] = {}
        for entry in entries.values():
            for name in entry.names.hf:
                self.by_hf[name.lower()] = (*self.by_hf.get(name.lower(), ()), entry.id)

    def default_positions(self) -> dict[str, str]:
        """The stricter choice of each position."""
        return {name: spec["default"] for name, spec in self.positions.items()}

    @classmethod
    def load(cls, folder: Path = FOLDER) -> "KnowledgeBase":
        """The knowledge base of a folder, by default the one that ships with the program; read once.

        Raises:
            BrokenEntry: for an entry that does not fit its schema, with the name of its file.
        """
        return _load(folder)

    @classmethod
    def open(cls, path: Path) -> "KnowledgeBase":
        """A knowledge base from elsewhere, as it is now: a folder of entries, or a file that `save` wrote.

        Raises:
            BrokenEntry: when it is neither.
        """
        if path.is_dir():
            source = packed.read_folder(path)
            return _checked(_made(packed.parse(source, path.name), source.digest))
        raw = packed.read_file(path)
        if raw is None:
            raise BrokenEntry(f"{path} is no folder of entries, and no file that can be read.")
        return cls.from_bytes(raw, name=str(path))

    @classmethod
    def from_bytes(cls, raw: bytes, *, name: str = "the file") -> "KnowledgeBase":
        """The knowledge base that `to_bytes` packed. Raises BrokenEntry."""
        found = packed.unpack(raw)
        if found is None:
            raise BrokenEntry(f"{name} is no knowledge base that `ecotone licence export` wrote, or it is damaged.")
        try:
            return _checked(_made(msgspec.msgpack.decode(found[1], type=packed.Content), found[0]))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BrokenEntry(f"{name} does not fit the form of a knowledge base: {error}") from None

    def to_bytes(self) -> bytes:
        """The knowledge base as one file, with its version and digest."""
        entries = {f"{e.id}.yaml": msgspec.to_builtins(e) for e in self.entries.values()}
        content = packed.Content(self.version, dict(self.positions), entries)
        return packed.pack(content, digest=bytes.fromhex(self.digest), form=form())

    def entry(self, entry_id: str) -> Entry:
        """Raises EntryNotFound."""
        found = self.entries.get(entry_id)
        if found is None:
            raise EntryNotFound(entry_id)
        return found


class _Compiled(msgspec.Struct, frozen=True):
    """`packed.Content` with its entries in their own type."""

    version: str
    positions: dict[str, Any]
    entries: dict[str, Entry]


@functools.cache
def _load(folder: Path) -> KnowledgeBase:
    source = packed.read_folder(folder)
    if folder != FOLDER:
        return _made(packed.parse(source, VERSION), source.digest)
    kept = packed.cached(folder)
    for file in (folder.with_name(packed.SHIPPED), kept):
        found = _unpacked(file, source.digest) if file is not None else None
        if found is not None:
            return found
    made, raw = compiled(folder)
    if kept is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written is done without
            packed.write(kept, raw)
    return made


def compiled(folder: Path) -> tuple[KnowledgeBase, bytes]:
    """The knowledge base of a folder, read from its YAML, and the file that loads at once. Raises BrokenEntry."""
    source = packed.read_folder(folder)
    content = packed.parse(source, VERSION)
    return _made(content, source.digest), packed.pack(content, digest=source.digest, form=form())


def _unpacked(file: Path, digest: bytes) -> KnowledgeBase | None:
    """The compiled knowledge base, if the file is whole and made of exactly this content for this program."""
    raw = packed.read_file(file)
    found = packed.unpack(raw, digest=digest, form=form()) if raw is not None else None
    if found is None:
        return None
    try:
        content = msgspec.msgpack.decode(found[1], type=_Compiled)
    except msgspec.MsgspecError:
        return None
    return _based({e.id: e for e in content.entries.values()}, content.version, content.positions, digest)


def _made(content: packed.Content, digest: bytes) -> KnowledgeBase:
    entries: dict[str, Entry] = {}
    for name, raw in content.entries.items():
        try:
            entry = msgspec.convert(raw, Entry)
        except msgspec.ValidationError as error:
            raise BrokenEntry(f"{name} of the knowledge base does not fit its schema: {error}") from None
        if entry.id in entries:
            raise BrokenEntry(f"{name}: the id {entry.id} is taken by another entry.")
        entries[entry.id] = entry
    return _based(entries, content.version, content.positions, digest)


def _checked(knowledge: KnowledgeBase) -> KnowledgeBase:
    """A knowledge base from elsewhere, once every condition in it has been understood. Raises BrokenEntry."""
    from ecotone.licences.plan import plan_of

    for entry in knowledge.entries.values():
        try:
            plan_of(entry)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise BrokenEntry(f"A condition of {entry.id} cannot be read: {error!r}.") from None
    for name, position in knowledge.positions.items():
        if not isinstance(position, dict) or not {"values", "default"} <= position.keys():
            raise BrokenEntry(f"The position {name} has no values or no default.")
    return knowledge


def _based(entries: dict[str, Entry], version: str, positions: dict[str, Any], digest: bytes) -> KnowledgeBase:
    return KnowledgeBase(entries, version=version, digest=digest.hex(), positions=positions)


@functools.cache
def form() -> bytes:
    """A hash (32 bytes) of version and form of the entries as this program reads them."""
    types = (Clause, Trigger, Fact, Names, Text, Incorporated, Effective, Definitions, Propagation, OutboundTerms)
    told = [
        (t.__name__, [(f.encode_name, str(f.type), repr(f.default)) for f in msgspec.structs.fields(t)])
        for t in (*types, Status, Entry)
    ]
    return hashlib.sha256(repr((VERSION, told)).encode()).digest()

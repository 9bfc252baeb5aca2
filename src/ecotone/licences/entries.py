"""The knowledge base: one YAML file per licence version in `entries/`, in the form of `schema.json`."""

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import yaml

from ecotone.licences.conditions import variables
from ecotone.licences.errors import BrokenEntry, EntryNotFound

FOLDER = Path(__file__).with_name("entries")
VERSION = "2026.11.24"


class Clause(msgspec.Struct, frozen=True):
    """Where in the text a fact stands. `sha256` is of the clause's normalised words, where the text was held."""

    sec: str
    sha256: str | None = None


class Trigger(msgspec.Struct, frozen=True):
    """When a duty arises: on these actions, on these objects, under this condition."""

    on: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    when: dict[str, Any] | None = None


class Fact(msgspec.Struct, frozen=True, kw_only=True):
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
    def reads(self) -> set[str]:
        """Variables that the fact depends on."""
        conditions = (self.when, self.unless, self.within, self.trigger.when if self.trigger else None)
        return set().union(*(variables(c) for c in conditions))


class Names(msgspec.Struct, frozen=True):
    spdx: str | None = None
    scancode: tuple[str, ...] = ()
    hf: tuple[str, ...] = ()
    license_name: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Text(msgspec.Struct, frozen=True):
    sha256: str | None = None
    normalised_sha256: str | None = None
    source: str | None = None
    path: str | None = None
    lang: str | None = None
    retrieved: str | None = None


class Incorporated(msgspec.Struct, frozen=True):
    ref: str
    clause: str
    dynamic: bool = False


class Effective(msgspec.Struct, frozen=True):
    since: str | None = msgspec.field(default=None, name="from")
    until: str | None = None


class Definitions(msgspec.Struct, frozen=True):
    derivative_includes: tuple[str, ...] = ()
    derivative_test: str = "any"
    distribution_includes: tuple[str, ...] = ()


class Propagation(msgspec.Struct, frozen=True):
    via: tuple[str, ...]
    what: str | tuple[str, ...] = "all"


class OutboundTerms(msgspec.Struct, frozen=True):
    """What a text demands of the licence of a derivative."""

    derivative: str = "own_terms"
    listed: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    flow_down: tuple[str, ...] = ()
    no_further_restrictions: bool = False
    tolerates: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True):
    authority: str
    reviewed: str
    notes: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A licence version, a provider's terms of a date, or a use policy."""

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
        """The knowledge base of a folder, by default the one that ships with the program; read once."""
        return _load(folder)

    def entry(self, entry_id: str) -> Entry:
        """Raises EntryNotFound."""
        found = self.entries.get(entry_id)
        if found is None:
            raise EntryNotFound(entry_id)
        return found


@functools.cache
def _load(folder: Path) -> KnowledgeBase:
    entries: dict[str, Entry] = {}
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.yaml")):
        raw = file.read_bytes()
        digest.update(raw)
        try:
            entry = msgspec.convert(yaml.load(raw, Loader=_Loader), Entry)  # noqa: S506  safe loader, in C
        except (msgspec.ValidationError, yaml.YAMLError) as error:
            raise BrokenEntry(f"{file.name} of the knowledge base does not fit its schema: {error}") from None
        if entry.id in entries:
            raise BrokenEntry(f"{file.name}: the id {entry.id} is taken by another entry.")
        entries[entry.id] = entry
    positions = yaml.load((folder / "positions.yml").read_bytes(), Loader=_Loader)  # noqa: S506
    return KnowledgeBase(entries, version=VERSION, digest=digest.hexdigest(), positions=positions)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which `on`, `yes` and `no` are words, as in YAML 1.2, and dates are text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))

"""Evidence smaller than a text: `SPDX-License-Identifier` tags, and notices that grant a licence by its name.

Only a notice can tell "this version only" from "or any later version", since both share one text. The names stand in
`notices.yaml`. Looks at a bounded number of characters around each name, so that the work is linear in the text.
"""

import functools
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

FILE = Path(__file__).with_name("notices.yaml")
_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+:() \t-]{1,300})")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:-]*")
_OPERATORS = frozenset({"and", "or", "with"})
_BEFORE, _AFTER, _LATER = 90, 170, 110
_MOST = 64


class Family(msgspec.Struct, frozen=True):
    """Licences of one name in several versions. `within`: words after the name among which the version stands."""

    names: tuple[str, ...]
    versions: dict[str, str]
    within: int
    later: bool = False
    unversioned: str | None = None


class Name(msgspec.Struct, frozen=True):
    names: tuple[str, ...]
    id: str
    later: bool = False


class Notices(msgspec.Struct, frozen=True):
    grants: tuple[str, ...]
    later: tuple[str, ...]
    families: tuple[Family, ...]
    named: tuple[Name, ...]


@functools.cache
def notices() -> Notices:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read = yaml.load(FILE.read_bytes(), Loader=loader)  # noqa: S506  a safe loader
    return msgspec.convert(read, Notices)


@functools.cache
def _names() -> tuple[re.Pattern[str], dict[str, Family | Name]]:
    """One pattern for all names, the longest first, and what each stands for."""
    every: list[Family | Name] = [*notices().families, *notices().named]
    owners = {name: owner for owner in every for name in owner.names}
    longest = sorted(owners, key=len, reverse=True)
    return re.compile(rf"(?<= )(?:{'|'.join(map(re.escape, longest))})(?= )"), owners


def tags(text: str) -> tuple[str, ...]:
    """Licence and exception ids of all `SPDX-License-Identifier` tags, as written, `X+` as `X-or-later`."""
    found: dict[str, None] = {}
    for match in _TAG.finditer(text):
        for part in _PART.findall(match[1]):
            if part.lower() not in _OPERATORS and len(found) < _MOST:
                found[part.rstrip(".-") if not part.endswith("+") else f"{part[:-1]}-or-later"] = None
    return tuple(found)


def granted(words: list[str], found_already: tuple[str, ...] = ()) -> dict[str, int]:
    """Ids that notices among the words grant, in order, and how often.

    Args:
        words: of a file; empty ones part what does not belong together.
        found_already: ids found by their text; a name without a version then means one of them.
    """
    joined = f" {' '.join(words)} "
    pattern, owners = _names()
    found: dict[str, int] = {}
    open_families: dict[str, str] = {}
    settled: set[str] = set()
    for match in pattern.finditer(joined):
        if len(found) >= _MOST:
            break
        owner = owners[match[0]]
        before = joined[max(0, match.start() - _BEFORE) : match.start()]
        before = f" {' '.join(before.split()[-10:])} "
        if not any(f" {g} " in before for g in notices().grants):
            continue
        after = joined[match.end() : match.end() + _AFTER + _LATER]
        if isinstance(owner, Name):
            name = _with_later(owner.id, after[:_LATER]) if owner.later else owner.id
            found[name] = found.get(name, 0) + 1
            continue
        family = owner.names[0]
        versioned = _versioned(owner, after)
        if versioned:
            found[versioned] = found.get(versioned, 0) + 1
            settled.add(family)
        elif (
            owner.unversioned
            and " " in match[0]
            and not any(i.startswith(tuple(owner.versions.values())) for i in found_already)
        ):
            open_families.setdefault(family, owner.unversioned)
    found |= {i: 1 for family, i in open_families.items() if family not in settled}
    return {
        i: n for i, n in found.items() if not (i.endswith("-only") and i.removesuffix("only") + "or-later" in found)
    }


def _of_family(family: Family, ids: tuple[str, ...]) -> bool:
    return any(i.startswith(tuple(family.versions.values())) for i in ids)


def _versioned(family: Family, after: str) -> str | None:
    words = after.split()
    for i, word in enumerate(words[: family.within]):
        number = word.removeprefix("version").removeprefix("v") if word[-1:].isdigit() else ""
        stated = word.startswith("v") or i == 0 or words[i - 1] in ("version", "v", "versions")
        found = family.versions.get(number.removesuffix(".0")) if number and stated else None
        if found:
            rest = f" {' '.join(words[i + 1 :])} "[:_LATER]
            return _with_later(found, rest) if family.later else found
    return None


def _with_later(name: str, after: str) -> str:
    return f"{name}-or-later" if any(f" {phrase} " in f" {after} " for phrase in notices().later) else f"{name}-only"

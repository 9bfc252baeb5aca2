"""The word lists and tests of WEAT, read from `weat.yaml` and checked as they are read. Pure."""

import functools
import hashlib
from importlib import resources
from typing import Any

import msgspec
import yaml

LEAST_WORDS = 4


class WordSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that stand for one notion; `name` is what a sentence calls it."""

    name: str
    words: tuple[str, ...]


class Test(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two sets of target words against two sets of attribute words, by their keys in `sets`."""

    id: str
    title: str
    topic: str
    targets: tuple[str, str]
    attributes: tuple[str, str]
    source: str


class WordLists(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of the file. `sources` has the address of each study that a test names."""

    version: str
    sources: dict[str, str]
    tests: tuple[Test, ...]
    sets: dict[str, WordSet]
    sha256: str = ""

    def words(self) -> list[str]:
        """Every word once, in a fixed order."""
        return sorted({word for group in self.sets.values() for word in group.words})


@functools.cache
def load() -> WordLists:
    """The lists shipped with the program.

    Raises:
        ValueError: the file breaks its own rules; the message says where.
    """
    raw = resources.files("ecotone.audits").joinpath("weat.yaml").read_bytes()
    return parse(yaml.safe_load(raw), hashlib.sha256(raw).hexdigest())


def parse(value: Any, sha256: str = "") -> WordLists:
    """Word lists from their YAML value.

    Raises:
        ValueError: a test names no set or no source, or a set has too few words or one of them twice.
    """
    try:
        found = msgspec.convert(value, WordLists)
    except msgspec.ValidationError as error:
        raise ValueError(f"word lists: {error}") from None
    for key, group in found.sets.items():
        if len(group.words) < LEAST_WORDS or len(set(group.words)) != len(group.words):
            raise ValueError(f"word lists: set {key!r} needs {LEAST_WORDS} words or more, each once")
    for test in found.tests:
        for key in (*test.targets, *test.attributes):
            if key not in found.sets:
                raise ValueError(f"word lists: test {test.id!r} names a set {key!r} that is not there")
        for source in test.source.split("; "):
            if source not in found.sources:
                raise ValueError(f"word lists: test {test.id!r} names a source {source!r} that is not there")
    return msgspec.structs.replace(found, sha256=sha256)

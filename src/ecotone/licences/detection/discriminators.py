"""Near texts that the law tells apart: `discriminators.yaml` says by which words, and what the difference decides."""

import functools
from pathlib import Path
from typing import Any

import msgspec
import yaml

FILE = Path(__file__).with_name("discriminators.yaml")


class Mark(msgspec.Struct, frozen=True):
    """Words that a clause is known by; any one of `words` will do. `means`: what the clause decides."""

    clause: str
    words: tuple[str, ...]
    means: str


class Marks(msgspec.Struct, frozen=True):
    needs: tuple[Mark, ...] = ()
    never: tuple[Mark, ...] = ()


class Pair(msgspec.Struct, frozen=True):
    between: tuple[str, str]
    clause: str
    difference: str


class Discriminators(msgspec.Struct, frozen=True):
    marks: dict[str, Marks]
    pairs: tuple[Pair, ...]

    def of(self, label: str) -> dict[str, str]:
        """Ids near to a text, each with what differs and in which clause."""
        found = {}
        for pair in self.pairs:
            if label in pair.between:
                other = pair.between[1 - pair.between.index(label)]
                found[other] = f"clause {pair.clause}: {pair.difference}"
        return found

    def broken(self, label: str, words: list[str]) -> list[str]:
        """Why a stretch of words may not be called by an id: marks of the id that lack, marks of others that stand."""
        marks = self.marks.get(label)
        if marks is None:
            return []
        joined = f" {' '.join(words)} "
        absent = [m for m in marks.needs if not any(f" {w} " in joined for w in m.words)]
        strange = [m for m in marks.never if any(f" {w} " in joined for w in m.words)]
        return [f"clause {m.clause} is missing or changed: {m.means}" for m in absent] + [
            f"clause {m.clause} differs: {m.means}" for m in strange
        ]


@functools.cache
def discriminators() -> Discriminators:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read = yaml.load(FILE.read_bytes(), Loader=loader)  # noqa: S506  a safe loader
    return msgspec.convert(read, Discriminators)

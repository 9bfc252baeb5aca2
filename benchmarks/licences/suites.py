"""Agreement of the knowledge base with what others wrote down of the same texts, as one line of JSON.

    python benchmarks/licences/suites.py [FOLDER]

FOLDER is `data/licence` of the shared reference data. OSADL's matrix (CC-BY-4.0, OSADL eG and contributors) answers
for derivation, Double Open's classifications (CC0-1.0, CC-BY-3.0, CC-BY-4.0) for linking, choosealicense's data
(CC-BY-3.0) for the flat view.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ecotone.licences import KnowledgeBase
from ecotone.licences.compat import Compatibility, compat
from ecotone.licences.tags import tags

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "licence"
_PERMISSIVE = "MIT"
_LINKABLE = ("copyleft-LGPL", "copyleft-module-level", "copyleft-file-level")


class Pair(NamedTuple):
    """An ordered pair on which the matrix is decided, and our answer."""

    parent: str
    child: str
    expected: bool
    answer: Compatibility

    @property
    def agrees(self) -> bool:
        return self.answer.verdict.passes is self.expected and (self.expected or self.answer.verdict == "deny")

    def __str__(self) -> str:
        reason = self.answer.reasons[0] if self.answer.reasons else None
        where = f"{reason.entry} {reason.clause}: {reason.means}" if reason else "no reason"
        return f"{self.child} <- {self.parent}: {self.answer.verdict}, expected {self.expected}; {where}"


class Cell(NamedTuple):
    """A tag that choosealicense and the derived view see differently; `ours` says whether the view has it."""

    licence: str
    tag: str
    ours: bool


def osadl(knowledge: KnowledgeBase, folder: Path) -> list[Pair]:
    """All ordered pairs of different licences on which OSADL answers yes or no (outer name outbound, inner inbound)."""
    matrix = json.loads((folder / "compat" / "osadl_matrixseqexpl.json").read_text())
    return [
        Pair(
            inner["name"],
            outer["name"],
            inner["compatibility"] == "Yes",
            compat(knowledge, inner["name"], outer["name"]),
        )
        for outer in matrix["licenses"]
        for inner in outer["compatibilities"]
        if inner["compatibility"] in ("Yes", "No") and inner["name"] != outer["name"]
    ]


def linking(knowledge: KnowledgeBase, folder: Path) -> list[Pair]:
    """Copyleft of library, module and file that the knowledge base holds, linked into a permissive work; and strong
    copyleft, which takes the whole."""
    classes = yaml.safe_load((folder / "compat" / "doubleopen_license-classifications.yml").read_text())
    held = {e.names.spdx for e in knowledge.entries.values()}
    found = []
    for known in classes["categorizations"]:
        name, categories = known["id"], known["categories"]
        expected = True if any(c in _LINKABLE for c in categories) else None
        if name in held and expected is not None:
            found.append(Pair(name, _PERMISSIVE, expected, compat(knowledge, name, _PERMISSIVE, "link")))
    return found


def choosealicense(knowledge: KnowledgeBase, folder: Path) -> tuple[int, list[Cell]]:
    """How many cells there are, and those that differ."""
    known = json.loads((folder / "choosealicense" / "licenses.json").read_text())
    fields = yaml.safe_load((folder / "choosealicense" / "rules.yml").read_text())
    groups = {group: [rule["tag"] for rule in rules] for group, rules in fields.items()}
    differing = [cell for name, row in known.items() for cell in _cells(knowledge, name, row, groups)]
    return len(known) * sum(len(names) for names in groups.values()), differing


def _cells(knowledge: KnowledgeBase, name: str, row: dict[str, Any], groups: dict[str, list[str]]) -> Iterator[Cell]:
    entry = knowledge.entries.get(name) or knowledge.entry(f"{name}-only")
    view = tags(entry)
    for group, names in groups.items():
        ours, theirs = getattr(view, group), row[group]
        for tag in names:
            if (tag in ours) != (tag in theirs):
                yield Cell(name, tag, tag in ours)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED
    knowledge = KnowledgeBase.load()
    pairs, links = osadl(knowledge, folder), linking(knowledge, folder)
    cells, differing = choosealicense(knowledge, folder)
    for pair in (*pairs, *links):
        if not pair.agrees:
            print(pair, file=sys.stderr)
    for cell in differing:
        print(*cell, file=sys.stderr)
    agreed, linked = sum(p.agrees for p in pairs), sum(p.agrees for p in links)
    print(
        json.dumps(
            {
                "entries": len(knowledge.entries),
                "osadl_pairs": len(pairs),
                "osadl_agreement": round(agreed / len(pairs), 5),
                "link_pairs": len(links),
                "link_agreement": round(linked / len(links), 5),
                "choosealicense_cells": cells,
                "choosealicense_agreement": round(1 - len(differing) / cells, 5),
            }
        )
    )


if __name__ == "__main__":
    main()

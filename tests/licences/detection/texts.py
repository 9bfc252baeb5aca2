"""The texts that the index is made of: which file is which licence. Read by the tests and by `write_index.py`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from ecotone.licences.detection.index import Source
from ecotone.licences.detection.normalising import words_of
from ecotone.licences.detection.reading import decoded

LIST = Path(__file__).with_name("texts.yaml")
_RENAMED = {"depreciate_StandardML-NJ": "SMLNJ"}
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.S)


class Listed(NamedTuple):
    """A file of the test data: `suite` is its folder, `names` what others call the text.

    `part`: words before which the licence ends, where the file holds more; that part is indexed as well.
    """

    suite: str
    name: str
    id: str
    text: str
    names: tuple[str, ...]
    indexed: bool
    part: str | None = None


def text_of(path: Path) -> str:
    """A licence text without the YAML front matter that the ScanCode files have."""
    return _FRONT.sub("", decoded(path.read_bytes()))


def listed(data: Path) -> Iterator[Listed]:
    """All texts of `texts.yaml`; `data` is the folder of licence test data."""
    for folder, files in yaml.safe_load(LIST.read_text()).items():
        scancode = folder.endswith("scancode_ai_licences")
        for name, facts in files.items():
            names = (f"LicenseRef-scancode-{name}",) if scancode else ()
            path = data / folder / (f"{name}.LICENSE" if scancode else name)
            yield Listed(
                folder, name, facts["id"], text_of(path), names, facts.get("index", True), facts.get("part_until")
            )


def sources(data: Path) -> list[Source]:
    """Everything to index, in a fixed order; ids with the same words share one entry."""
    groups: dict[tuple[str, ...], tuple[str, list[str]]] = {}
    for path in sorted((data / "detection/spdx_simple").glob("*.txt")):
        if path.stem.startswith("depreciate_") and "-with-" in path.stem:
            continue  # a notice and an exception, both known on their own
        text = text_of(path)
        groups.setdefault(tuple(words_of(text)), (text, []))[1].append(path.stem)
    found = []
    seen = {}
    for words, (text, stems) in groups.items():
        members = sorted(_current(stems), key=lambda i: (not i.endswith("-only"), len(i), i))
        label = members[0]
        seen[words] = label
        found.append(Source(label, text, members=tuple(members[1:]), spdx=True))
    labels = {s.label: n for n, s in enumerate(found)}
    for item in listed(data):
        words = tuple(words_of(item.text))
        if words in seen and seen[words] == item.id:
            at = labels[item.id]
            old = found[at]
            found[at] = Source(old.label, old.text, old.members, (*old.names, *item.names), old.spdx)
        elif item.indexed:
            first = labels.setdefault(item.id, len(found))
            spdx = first < len(found) and found[first].spdx
            members = found[first].members if first < len(found) else ()
            seen[words] = item.id
            found.append(Source(item.id, item.text, members, item.names, spdx))
            if item.part:
                found.append(Source(item.id, item.text[: item.text.index(item.part)], members, item.names, spdx))
    return found


def _current(stems: list[str]) -> list[str]:
    """SPDX ids of a group; the deprecated ones only where there is no other, without the mark of the file name.

    The bare `GPL-3.0` and its like are deprecated forms of `-only`.
    """
    kept = [s for s in stems if not s.startswith("depreciate_")] or [
        _RENAMED.get(s, s).removeprefix("depreciate_").replace("+", "-only") for s in stems
    ]
    return [s for s in kept if f"{s}-only" not in kept]

"""The index holds the suites' own texts; these tests change them, or leave them out, as people and tools do."""

import html
import random
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.licences.detection import detect
from ecotone.licences.detection.index import FORMAT, Index, Source, _Stored, write
from tests.licences.detection.scoring import plain_spdx
from tests.licences.detection.texts import listed, sources, text_of

ROOT = Path(__file__).resolve().parents[3]
COMMON = [
    *("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "GPL-2.0-only", "GPL-3.0-only", "LGPL-2.1-only"),
    *("AGPL-3.0-only", "MPL-2.0", "EPL-2.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC0-1.0", "Unlicense"),
    *("Zlib", "BSL-1.0", "CDLA-Permissive-2.0", "ODC-By-1.0", "C-UDA-1.0"),
]
Change = Callable[[str, random.Random], str]


def paragraphs(text: str) -> list[str]:
    return [p for p in re.split(r"\n\s*\n", text) if p.strip()]


def rewrapped(text: str, chance: random.Random) -> str:
    width = chance.choice([40, 72, 100, 10_000])
    return "\n\n".join(textwrap.fill(" ".join(p.split()), width, break_long_words=False) for p in paragraphs(text))


def in_one_line(text: str, chance: random.Random) -> str:
    return " ".join(text.split())


def as_markdown(text: str, chance: random.Random) -> str:
    return "# Licence\n\n" + "\n\n".join(f"**{p.split()[0]}** " + " ".join(p.split()[1:]) for p in paragraphs(text))


def as_html(text: str, chance: random.Random) -> str:
    body = "".join(f'<p class="x">{html.escape(p)}</p>' for p in paragraphs(text))
    return f"<!DOCTYPE html><html><head><style>p {{x: 1}}</style></head><body>{body}</body></html>"


def in_a_source_header(text: str, chance: random.Random) -> str:
    mark = chance.choice(["#", " *", "//", ";;", "--"])
    return "\n".join(f"{mark} {line}" for line in text.splitlines()) + "\n\nint main(void) { return 0; }\n"


def in_a_readme(text: str, chance: random.Random) -> str:
    before = "# A project\n\nIt does things. You must install it before use; see the manual for more.\n\n## License\n\n"
    return before + text + "\n\n## Contributing\n\nPull requests are welcome; open an issue first.\n"


def with_another_holder(text: str, chance: random.Random) -> str:
    return f"Copyright (c) {chance.randint(1990, 2026)} Example GmbH and contributors. All rights reserved.\n\n{text}"


def with_a_few_typing_errors(text: str, chance: random.Random) -> str:
    parts = re.split(r"(\s+)", text)
    for i in chance.sample(range(0, len(parts), 2), max(1, len(parts) // 800)):
        if parts[i].isalpha() and len(parts[i]) > 5:
            parts[i] = parts[i][:2] + parts[i][3:]
    return "".join(parts)


CHANGES: list[Change] = [
    rewrapped,
    in_one_line,
    as_markdown,
    as_html,
    in_a_source_header,
    in_a_readme,
    with_another_holder,
    with_a_few_typing_errors,
]


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data/licence"


class Texts(list[tuple[str, str]]):
    """Ids and texts; shown by their number only."""

    def __repr__(self) -> str:
        return f"{len(self)} texts"


@pytest.fixture(scope="module")
def texts(data: Path) -> Texts:
    found = [(i, text_of(data / f"detection/spdx_simple/{i}.txt")) for i in COMMON]
    return Texts(found + [(t.id, t.text) for t in listed(data) if "ai_licence" in t.suite])


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    which=st.integers(0, 10_000),
    changes=st.lists(st.sampled_from(CHANGES), max_size=3, unique=True),
    seed=st.integers(0, 999),
)
def test_dress_does_not_hide_a_licence(texts: Texts, which: int, changes: list[Change], seed: int) -> None:
    licence, text = texts[which % len(texts)]
    chance = random.Random(seed)
    for change in sorted(changes, key=CHANGES.index, reverse=True):
        text = change(text, chance)
    answers = detect(text)
    named = {plain_spdx(d.id) for d in answers} | {plain_spdx(n.id) for d in answers for n in d.near}
    others = {plain_spdx(d.id) for d in answers} - {"unknown", plain_spdx(licence)}
    assert plain_spdx(licence) in named, answers
    assert not others, answers


@pytest.mark.parametrize("change", CHANGES[:-1])
def test_each_dress_alone_leaves_the_name_exact(texts: Texts, change: Change) -> None:
    chance = random.Random(7)
    wrong = [i for i, t in texts if [plain_spdx(d.id) for d in detect(change(t, chance))] != [plain_spdx(i)]]
    assert wrong == []


def test_paragraphs_in_another_order_are_still_the_licence(texts: Texts) -> None:
    chance = random.Random(3)
    right = 0
    for licence, text in texts:
        parts = paragraphs(text)
        chance.shuffle(parts)
        right += [plain_spdx(d.id) for d in detect("\n\n".join(parts))] == [plain_spdx(licence)]
    assert right >= 0.9 * len(texts)


def test_several_licences_in_one_file_are_all_named(data: Path) -> None:
    names = ["MIT", "Apache-2.0", "BSD-3-Clause", "Zlib", "CC-BY-4.0"]
    joined = "\n\n-----\n\n".join(text_of(data / f"detection/spdx_simple/{n}.txt") for n in names)
    assert {d.id for d in detect(joined)} == set(names)


def test_a_text_from_another_hand_is_named_by_an_index_that_has_not_seen_it(data: Path) -> None:
    """Of licences held in several copies, an index with the first copy must name the others, or call them near."""
    first: dict[str, Source] = {}
    others: list[Source] = []
    for source in sources(data):
        if source.label in first:
            ratio = len(source.text) / len(first[source.label].text)
            others += [source] if 0.8 < ratio < 1.25 else []  # else the file holds only a part, or more
        else:
            first[source.label] = source
    index = Index(msgspec.msgpack.decode(write(first.values()), type=_Stored))
    assert FORMAT == 1
    assert len(others) >= 6
    wrong = {}
    for other in others:
        answers = detect(other.text, index=index)
        named = {d.id for d in answers}
        near = {n.id for d in answers for n in d.near}
        if named - {"unknown", other.label} or other.label not in named | near:
            wrong[other.label] = [(d.id, d.coverage) for d in answers]
    assert wrong == {}


def test_the_licence_of_this_program_is_named_without_any_test_data() -> None:
    (answer,) = detect((ROOT / "LICENSE").read_text())
    assert (answer.id, answer.spdx) == ("Apache-2.0", "Apache-2.0")
    assert answer.coverage > 0.99


def test_prose_is_no_licence() -> None:
    assert detect("This program reads files. You must install it first, and it may not work for everybody.") == []
    assert detect("") == []

"""The public suites and the AI licences: every text by its right name, no version for another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ecotone.licences import KnowledgeBase
from ecotone.licences.detection import Detection, detect
from ecotone.licences.detection.detecting import Identity
from ecotone.licences.detection.index import load
from tests.licences.detection.scoring import Case, google_cases, plain_google, plain_spdx, spdx_cases
from tests.licences.detection.texts import listed

SCANCODE_EXACT_SPDX = 709
SCANCODE_EXACT_GOOGLE = 30


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data/licence"


@pytest.fixture(scope="module")
def knowledge() -> KnowledgeBase:
    return KnowledgeBase.load()


def exact(cases: list[Case], knowledge: KnowledgeBase, plain: Callable[[str], str]) -> tuple[int, list[str]]:
    """How many answers are exactly what is expected, and the names of the others."""
    wrong = [c.name for c in cases if {plain(d.id) for d in detect(c.text, knowledge)} != c.expected]
    return len(cases) - len(wrong), wrong


def test_the_spdx_texts_are_named_more_exactly_than_by_scancode(data: Path, knowledge: KnowledgeBase) -> None:
    right, wrong = exact(spdx_cases(data), knowledge, plain_spdx)
    undecidable = ("depreciate_", "GFDL-", "OFL-1", "CAL-1.0-Combined", "MPL-2.0-no-copyleft")
    assert right > SCANCODE_EXACT_SPDX
    assert [w for w in wrong if not w.startswith(undecidable)] == []


def test_scenarios_that_are_not_in_the_index_are_named_more_exactly_than_by_scancode(
    data: Path, knowledge: KnowledgeBase
) -> None:
    right, wrong = exact(google_cases(data), knowledge, plain_google)
    assert right > SCANCODE_EXACT_GOOGLE, wrong


@pytest.mark.parametrize(
    ("suite", "count"),
    [
        ("detection/ai_licence_texts", 12),
        ("detection/ai_licence_texts/aup", 6),
        ("detection/scancode_ai_licences", 46),
        ("modelgo/MGL/V1", 9),
        ("modelgo/MGL/V2", 8),
        ("modelgo/license_raw", 32),
    ],
)
def test_no_ai_licence_or_policy_is_taken_for_another_version(
    data: Path, knowledge: KnowledgeBase, suite: str, count: int
) -> None:
    identity = Identity(load(), knowledge)
    texts = [t for t in listed(data) if t.suite == suite]
    wrong = {}
    for item in texts:
        answers = detect(item.text, knowledge)
        if [d.id for d in answers] != [identity.of(item.id)[0]]:
            wrong[item.name] = shown(answers)
    assert len(texts) == count
    assert wrong == {}


def shown(answers: list[Detection]) -> list[tuple[str, list[str]]]:
    return [(d.id, [f"{n.id}: {n.difference}" for n in d.near]) for d in answers]


def test_the_text_of_the_gnu_licences_leaves_open_what_only_a_notice_decides(
    data: Path, knowledge: KnowledgeBase
) -> None:
    text = (data / "detection/spdx_simple/GPL-3.0-or-later.txt").read_text()
    (alone,) = detect(text, knowledge)
    assert alone.id == "GPL-3.0-only"
    assert [n.id for n in alone.near] == ["GPL-3.0-or-later"]
    notice = "\n\nThe program is under the GNU General Public License version 3 or any later version.\n"
    (decided,) = detect(text + notice, knowledge)
    assert (decided.id, decided.near) == ("GPL-3.0-or-later", ())

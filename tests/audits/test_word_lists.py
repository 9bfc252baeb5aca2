"""What a user would lose: a test over other words than those of the paper, or without a source."""

import copy
from importlib import resources

import pytest
import yaml

from ecotone.audits import wordlists

SIZES = {
    "weat1": (25, 25, 25, 25),
    "weat2": (25, 25, 25, 25),
    "weat3": (32, 32, 25, 25),
    "weat4": (18, 18, 25, 25),
    "weat5": (18, 18, 8, 8),
    **{f"weat{n}": (8, 8, 8, 8) for n in (6, 7, 8, 10)},
    "weat9": (6, 6, 7, 7),
}


def test_ten_tests_with_the_sizes_of_the_paper() -> None:
    lists = wordlists.load()
    found = {t.id: tuple(len(lists.sets[k].words) for k in (*t.targets, *t.attributes)) for t in lists.tests}
    assert found == SIZES


def test_targets_and_attributes_share_no_word() -> None:
    lists = wordlists.load()
    for test in lists.tests:
        targets = [set(lists.sets[k].words) for k in test.targets]
        attributes = [set(lists.sets[k].words) for k in test.attributes]
        assert not targets[0] & targets[1], test.id
        assert not attributes[0] & attributes[1], test.id


def test_every_set_is_used_and_every_source_has_an_address() -> None:
    lists = wordlists.load()
    assert {k for t in lists.tests for k in (*t.targets, *t.attributes)} == set(lists.sets)
    assert all(address.startswith("https://") for address in lists.sources.values())
    assert len(lists.sha256) == 64


def test_word_lists_against_the_reference_copy(shared: object) -> None:
    import json
    from pathlib import Path

    reference = json.loads((Path(str(shared)) / "data/bias/wefe/WEAT.json").read_text())
    ours = {key: list(group.words) for key, group in wordlists.load().sets.items()}
    assert {k for k in ours if ours[k] != reference[k]} == {"temporary", "young_people_names"}
    assert set(ours) == set(reference)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["tests"][0].update(targets=["flowers", "cars"]), "'cars'"),
        (lambda v: v["tests"][0].update(source="Somebody"), "'Somebody'"),
        (lambda v: v["sets"]["flowers"].update(words=["rose"]), "'flowers'"),
        (lambda v: v["sets"]["math"]["words"].append("math"), "'math'"),
        (lambda v: v.update(extra=1), "extra"),
    ],
)
def test_broken_lists_are_named(change: object, said: str) -> None:
    raw = yaml.safe_load(resources.files("ecotone.audits").joinpath("weat.yaml").read_bytes())
    broken = copy.deepcopy(raw)
    change(broken)  # type: ignore[operator]
    with pytest.raises(ValueError, match=said):
        wordlists.parse(broken)

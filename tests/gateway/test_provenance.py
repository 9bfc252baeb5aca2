"""What a user would lose: which model, at which revision or under which terms, an answer came from."""

import json
from typing import Any

import msgspec
import pytest

from ecotone.gateway.replaying import Kept
from ecotone.ledger import Ledger
from ecotone.ledger.answers import Answer, Answers
from ecotone.ledger.texts import Texts

TERMS = "openai-services-agreement-2026-01-01"
BASE = "demo/base@" + "b" * 40


def known(house: Any, **routes: Any) -> None:
    """Terms of the provider, and an adapter's base; each route's answers are kept for a while."""
    now = house.snapshots.current
    local = msgspec.structs.replace(now.targets["demo/local"], base=BASE)
    shop = msgspec.structs.replace(now.consumers["shop"], keep_days=3)
    masked = msgspec.structs.replace(now.consumers["masked"], keep_days=3)
    cached = msgspec.structs.replace(now.routes["assistant"], cache_seconds=60)
    house.snapshots.current = msgspec.structs.replace(
        now,
        version=now.version + 1,
        targets={**now.targets, "demo/local": local},
        backends={n: msgspec.structs.replace(t, terms=TERMS) for n, t in now.backends.items()},
        consumers={**now.consumers, "shop": shop, "masked": masked},
        routes={**now.routes, "assistant": cached},
    )


def answers(house: Any) -> list[Answer]:
    return list(Answers(Ledger(house.folder / "ledger"), lambda _: True))


@pytest.mark.parametrize("stream", [False, True])
def test_each_answer_says_what_made_it_to_the_caller_and_to_the_ledger(house: Any, stream: bool) -> None:
    known(house)
    far = house.post("fake/gpt-test", "one", stream=stream)
    assert far.headers["x-ecotone-provenance"] == f'model="fake/gpt-test", terms="{TERMS}"'
    assert (house.settled(far)["terms"], "revision" in house.settled(far)) == (TERMS, False)
    near = house.post("demo/local", "two", stream=stream)
    told = f'model="demo/local", revision="{"a" * 40}", base="{BASE}"'
    assert near.headers["x-ecotone-provenance"] == told
    assert (house.settled(near)["revision"], house.settled(near)["base"]) == ("a" * 40, BASE)
    (opened,) = [r for r in house.records(near.headers["x-request-id"]) if r["kind"] == "opened"]
    assert (opened["revision"], opened["base"], "terms" in opened) == ("a" * 40, BASE, False)


def test_a_fallback_names_the_one_that_answered_and_a_cached_answer_the_one_that_made_it(house: Any) -> None:
    known(house)
    rescued = house.post("rescue", "help")
    assert rescued.headers["x-ecotone-provenance"] == f'model="fake/gpt-test", terms="{TERMS}"'
    house.settled(rescued)
    first, again = house.post("assistant", "same"), house.post("assistant", "same")
    assert house.settled(again)["status"] == "cached"
    assert first.headers["x-ecotone-provenance"] == again.headers["x-ecotone-provenance"]
    found = {a.request_id: a for a in answers(house)}
    assert {a.terms for a in found.values()} == {TERMS}
    assert {a.model for a in found.values()} == {"fake/gpt-test"}
    assert found[again.headers["x-request-id"]].ruling, "a cached answer has no decision"


def test_kept_texts_hold_cached_answers_and_the_end_of_a_masked_stream(house: Any) -> None:
    texts = house.gateway._texts = Texts.of(house.gateway._settings)
    known(house)
    house.post("assistant", "same")
    again = house.post("assistant", "same")
    masked = house.post("fake/gpt-test", "write maria.lopez@example.org", key="eck_masked", stream=True)
    for answer in (again, masked):
        house.settled(answer)
    texts.close()
    (kept,) = texts.read(again.headers["x-request-id"])
    assert json.loads(kept["text"]["answer"])["choices"][0]["message"]["content"] == "You said: same"
    (kept,) = texts.read(masked.headers["x-request-id"])
    whole = Kept.of_stream("chat", kept["text"]["answer"].encode())
    assert whole is not None, "the kept stream has no end"
    body = json.loads(whole.whole() or b"")
    assert body["choices"][0]["message"]["content"] == "You said: write maria.lopez@example.org"


def test_a_name_cannot_forge_provenance(house: Any) -> None:
    known(house)
    answer = house.post('fake/x", terms="mit', "hello")
    assert answer.headers["x-ecotone-provenance"] == f'model="fake/x\\", terms=\\"mit", terms="{TERMS}"'

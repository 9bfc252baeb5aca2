"""A refusal of weights that come from somewhere else says the simplest way out, and that way is open."""

import re
from types import SimpleNamespace

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.publishing import AddRegular, Commit, Settling
from ecotone.vocabulary import EdgeWord, Refused, Role
from tests.publishing.test_descent import publish
from tests.publishing.weights import card, fresh, packed, tuned

A = fresh(1)
LLAMA = "meta-llama/Llama-3.1-8B"


def test_mit_on_a_llama_derivative_is_told_base_and_licence_and_both_let_it_in(house: SimpleNamespace) -> None:
    publish(house, LLAMA, A, card("llama3.1"))
    house.catalog.create("demo/Llama-mine", private=False, actor=SYSTEM)
    files = {"README.md": card("mit"), "model.safetensors": packed(tuned(A, 7))}
    with pytest.raises(Refused) as refused:
        house.publish("demo/Llama-mine", files)
    said = refused.value.message
    assert f"`base_model: {LLAMA}`" in said and "`license: llama3.1`" in said and "clause" in said
    assert "ask an administrator" in said
    settling = Settling(house.catalog, four_eyes=False)
    (digest,) = re.findall(r"`ecotone lineage reject demo/Llama-mine \S+ --weights (\w+) --reason", said)
    word = settling.say("demo/Llama-mine", LLAMA, EdgeWord.REJECTED, "no", actor=SYSTEM, weights=digest)
    house.publish("demo/Llama-mine", files | {"notes.txt": b"as an administrator said"})
    settling.take_back(word.id, actor=SYSTEM)
    fields = dict(re.findall(r"`(base_model|license): ([^`]+)`", said))
    house.publish("demo/Llama-mine", files | {"README.md": card(fields["license"], base_model=fields["base_model"])})


def test_who_named_the_base_is_told_the_licence_alone(house: SimpleNamespace) -> None:
    publish(house, LLAMA, A, card("llama3.1"))
    with pytest.raises(Refused) as refused:
        publish(house, "demo/Llama-mine", tuned(A, 7), card("mit", base_model=LLAMA))
    assert "`license: llama3.1`" in refused.value.message and "base_model:" not in refused.value.message


def test_a_private_base_is_not_named_by_the_way_out(house: SimpleNamespace) -> None:
    publish(house, "demo/secret", A, card("cc-by-nc-4.0"), private=True)
    house.catalog.create("team/mine", private=False, actor=SYSTEM)
    operations = (AddRegular("README.md", card("mit")), AddRegular("model.safetensors", packed(tuned(A, 7))))
    outsider = Actor("key", "outsider", Role.ADMIN)
    with pytest.raises(Refused) as refused:
        house.publishing.commit("team/mine", "main", Commit(message="Add", operations=operations), actor=outsider)
    said = refused.value.message
    assert "demo/secret" not in said and "base_model" not in said and "administrator" in said

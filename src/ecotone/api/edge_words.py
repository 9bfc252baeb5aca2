"""Administrators' words on lineage edges over REST."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.catalog import KeptWord
from ecotone.vocabulary import EdgeWord, Relation


class NewWord(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`relation` is that of an edge that is made, where confirming finds none; `weights` is the digest
    that a refused upload was told, where nothing was published yet."""

    model: str
    parent: str
    word: EdgeWord
    reason: str
    revision: str = "main"
    relation: Relation | None = None
    weights: str | None = None


@endpoint(
    "POST", "/lineage/words", need=Need.ADMIN, body=NewWord, status=201, summary="Confirm or reject a lineage edge"
)
def say_word(call: Call) -> Any:
    """A confirmation is in force at once; a rejection waits for another administrator's approval."""
    new: NewWord = call.body
    word = call.services.settling.say(
        new.model,
        new.parent,
        new.word,
        new.reason,
        actor=call.actor,
        rev=new.revision,
        relation=new.relation,
        weights=new.weights,
    )
    act = "lineage.word_proposed" if word.waits else "lineage.word_said"
    call.services.note(act, call.actor, word=msgspec.to_builtins(word))
    return word_json(word)


@endpoint("GET", "/lineage/words", need=Need.ADMIN, summary="Words on lineage edges, of one model or of all")
def list_words(call: Call) -> Any:
    """Query: model."""
    name = call.query.get("model")
    model = call.services.catalog.model(name, viewer=call.actor) if name else None
    return [word_json(word) for word in call.services.catalog.words(model)]


@endpoint(
    "POST", "/lineage/words/{id}/approve", need=Need.ADMIN, summary="Approve a word that another administrator said"
)
def approve_word(call: Call) -> Any:
    word = call.services.settling.approve(call.path["id"], actor=call.actor)
    call.services.note("lineage.word_approved", call.actor, word=msgspec.to_builtins(word))
    return word_json(word)


@endpoint("DELETE", "/lineage/words/{id}", need=Need.ADMIN, summary="Take back a word on a lineage edge")
def take_back_word(call: Call) -> Any:
    word = call.services.settling.take_back(call.path["id"], actor=call.actor)
    call.services.note("lineage.word_taken_back", call.actor, word=msgspec.to_builtins(word))
    return word_json(word) | {"taken_back": True}


def word_json(word: KeptWord) -> dict[str, Any]:
    """A word with its state in one word."""
    return {**msgspec.to_builtins(word), "state": "waiting for approval" if word.waits else "in force"}

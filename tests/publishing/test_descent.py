"""What an uploader is told of weights that say otherwise than the card, and what nobody is told who may not know."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.catalog import UNTOLD
from ecotone.catalog.living import Living
from ecotone.licences import Use
from ecotone.lineage import Fingerprint
from ecotone.lineage.comparing import Related, compare_prints
from ecotone.lineage.fingerprint import TensorPrint
from ecotone.policy.rules import RuleKind
from ecotone.publishing import Published, candidates
from ecotone.publishing.descent import _alike, alarms_in
from ecotone.publishing.kinship import Match
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Refused, Relation, Verdict
from tests.publishing.lineage import edges, told
from tests.publishing.weights import Weights, card, fresh, grafted, packed, tuned

A, B = fresh(1), fresh(2)
SERVE = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)


def publish(house: SimpleNamespace, name: str, weights: Weights, text: bytes, *, private: bool = False) -> Published:
    house.catalog.create(name, private=private, actor=SYSTEM)
    made: Published = house.publish(name, {"README.md": text, "model.safetensors": packed(weights)})
    return made


def codes(house: SimpleNamespace, name: str) -> set[str]:
    model = house.catalog.model(name, viewer=SYSTEM)
    return {alarm.code for alarm in alarms_in(house.catalog.weights(model, model.head).report)}


def test_a_fine_tune_that_names_no_base_is_told_of_it_and_bound_by_its_terms(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("cc-by-nc-4.0"))
    made = publish(house, "demo/tuned", tuned(A, 7), card("cc-by-nc-4.0"))
    assert "descend from demo/base" in made.warnings[0] and "base_model: demo/base" in made.warnings[0]
    assert told(house, "demo/tuned") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]
    with pytest.raises(Refused, match=r"descends from demo/base.*NonCommercial.*clause"):
        publish(house, "demo/free", tuned(A, 8), card("mit"))
    assert house.policy.judge("demo/tuned", "main", SERVE).verdict is Verdict.DENY


def test_an_independent_model_of_the_same_build_raises_no_alarm(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("cc-by-nc-4.0"))
    made = publish(house, "demo/other", B, card("mit"))
    assert not made.warnings and edges(house, "demo/other") == () and codes(house, "demo/other") == set()


def test_a_card_that_names_another_base_is_told_so(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("cc-by-nc-4.0"))
    publish(house, "demo/other", B, card("mit"))
    made = publish(house, "demo/tuned", tuned(A, 7), card("cc-by-nc-4.0", base_model="demo/other"))
    assert any("names demo/other" in w and "do not show it" in w for w in made.warnings)
    assert ("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED) in told(house, "demo/tuned")


def test_a_right_card_is_borne_out_and_nothing_is_said(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("apache-2.0"))
    made = publish(house, "demo/tuned", tuned(A, 7), card("apache-2.0", base_model="demo/base"))
    assert not made.warnings and told(house, "demo/tuned") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]
    assert "mean cosine" in edges(house, "demo/tuned")[0].evidence


def test_who_names_the_base_afterwards_is_no_longer_told(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("apache-2.0"))
    publish(house, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    silent = house.publish("demo/tuned", {"notes.txt": b"later"})
    assert "descend from demo/base" in silent.warnings[0]
    named = house.publish("demo/tuned", {"README.md": card("apache-2.0", base_model="demo/base")})
    assert not named.warnings and told(house, "demo/tuned") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]


def test_tensors_taken_over_from_a_model_are_found(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("cc-by-nc-4.0"))
    publish(house, "demo/other", B, card("mit"))
    with pytest.raises(Refused, match="demo/base"):
        publish(house, "demo/graft", grafted(B, A), card("mit", base_model="demo/other"))


def test_a_private_source_binds_its_copy_and_is_named_to_nobody_outside(house: SimpleNamespace) -> None:
    publish(house, "secret/source", A, card("cc-by-nc-4.0"), private=True)
    made = publish(house, "demo/copy", A, card("cc-by-nc-4.0"))
    model = house.catalog.model("demo/copy", viewer=ANONYMOUS)
    revision, weights = house.catalog.revision(model), house.catalog.weights(model, made.revision_id)
    outside = [e.parent for e in house.catalog.told_edges(revision.edges, ANONYMOUS)]
    said = house.publishing.descent.told(alarms_in(weights.report), ANONYMOUS)
    assert outside == [UNTOLD] and UNTOLD in said[0]
    assert "secret" not in repr((revision.findings, weights.report, said, outside))
    assert "secret" not in repr(house.policy.judge("demo/copy", "main", SERVE, viewer=ANONYMOUS).to_json())
    assert house.policy.judge("demo/copy", "main", SERVE, viewer=ANONYMOUS).verdict is not Verdict.ALLOW
    with pytest.raises(Refused):
        publish(house, "demo/free", A, card("mit"))


def test_a_base_that_comes_after_its_derivative_is_not_accused(house: SimpleNamespace) -> None:
    publish(house, "demo/tuned", tuned(A, 7), card("cc-by-nc-4.0", base_model="demo/base"))
    made = publish(house, "demo/base", A, card("mit"))
    assert edges(house, "demo/base") == () and codes(house, "demo/base") == {"related"}
    assert "demo/tuned" in made.warnings[0]


def test_what_holds_fewer_bits_is_not_taken_for_the_parent(house: SimpleNamespace) -> None:
    small = {name: np.clip(np.round(value * 64), -127, 127).astype(np.int8) for name, value in A.items()}
    publish(house, "demo/small", small, card("cc-by-nc-4.0"))
    publish(house, "demo/whole", A, card("mit"))
    assert edges(house, "demo/whole") == () and codes(house, "demo/whole") == {"related"}


def test_the_nearest_of_a_family_is_named_and_its_sibling_is_not(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("mit"))
    publish(house, "demo/sibling", tuned(A, 7), card("cc-by-nc-4.0", base_model="demo/base"))
    publish(house, "demo/tuned", tuned(A, 8), card("mit", base_model="demo/base"))
    assert [e.parent for e in edges(house, "demo/tuned")] == ["demo/base"] and codes(house, "demo/tuned") == set()
    made = publish(house, "demo/grandchild", tuned(tuned(A, 7), 9, 0.002), card("cc-by-nc-4.0", base_model="demo/base"))
    assert "descend from demo/sibling" in made.warnings[0]


def test_a_deleted_parent_still_answers(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("cc-by-nc-4.0"))
    model = house.catalog.model("demo/base", viewer=SYSTEM)
    names = set(house.catalog.weights(model, model.head).names)
    house.catalog.delete(model, SYSTEM)
    assert names and Living(house.database).weights(names | {"none"}) == names
    with pytest.raises(Refused, match="demo/base"):
        publish(house, "demo/tuned", tuned(A, 7), card("mit"))


def test_two_cards_that_name_each_other_are_told(house: SimpleNamespace) -> None:
    publish(house, "demo/one", A, card("apache-2.0", base_model="demo/two"))
    made = publish(house, "demo/two", tuned(A, 7), card("apache-2.0", base_model="demo/one"))
    assert any("name each other" in warning for warning in made.warnings)


def test_a_crowd_of_names_in_a_card_pushes_the_source_not_out(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("cc-by-nc-4.0"))
    for number in range(9):
        publish(house, f"demo/other{number}", fresh(20 + number), card("mit"))
    crowd = "[" + ", ".join(f"demo/other{number}" for number in range(9)) + "]"
    with pytest.raises(Refused, match="demo/base"):
        publish(house, "demo/tuned", tuned(A, 7), card("mit", base_model=crowd))


def test_an_organisation_may_refuse_what_contradicts_its_card(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("apache-2.0"))
    house.policy.add_rule(RuleKind.BLOCK, "lineage:contradiction", "name your bases", actor=SYSTEM)
    with pytest.raises(Refused, match="name your bases"):
        publish(house, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    publish(house, "demo/named", tuned(A, 7), card("apache-2.0", base_model="demo/base"))


def test_weights_that_are_no_numbers_or_cut_off_are_a_finding(house: SimpleNamespace) -> None:
    odd = dict(A) | {"lm_head.weight": np.full_like(A["lm_head.weight"], np.nan)}
    made = publish(house, "demo/odd", odd, card("mit"))
    assert any("NaN" in warning for warning in made.warnings)
    assert any("NaN" in warning for warning in house.publish("demo/odd", {"notes.txt": b"x"}).warnings)
    house.catalog.create("demo/cut", private=False, actor=SYSTEM)
    broken = {"model.safetensors": packed(A)[:-9], "x.gguf": b"GGUF\x03\0\0\0" + b"\xff" * 99}
    cut: Any = house.publish("demo/cut", broken)
    assert any("model.safetensors" in w for w in cut.warnings) and any("x.gguf" in w for w in cut.warnings)


def test_a_model_of_very_many_tensors_is_compared_by_some_of_them(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MOST_SAMPLED", 5)
    publish(house, "demo/base", A, card("apache-2.0"))
    publish(house, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    (edge,) = edges(house, "demo/tuned")
    assert edge.status is EdgeStatus.VERIFIED and "over 5 tensors" in edge.evidence
    publish(house, "demo/other", B, card("apache-2.0"))
    assert edges(house, "demo/other") == ()


def test_a_squashed_history_and_a_copy_on_the_hub_keep_what_is_known(house: SimpleNamespace) -> None:
    publish(house, "demo/base", A, card("apache-2.0"))
    publish(house, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    model = house.catalog.model("demo/tuned", viewer=SYSTEM)
    squashed = house.publishing.squash(model, "main", "One", actor=SYSTEM)
    assert house.catalog.weights(model, squashed.revision_id).report["alarms"]
    assert told(house, "demo/tuned") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]
    copy = house.publishing.duplicate(model, "demo/twin", actor=SYSTEM)
    assert house.catalog.weights(copy, copy.head).names == house.catalog.weights(model, squashed.revision_id).names


def test_tens_of_thousands_of_tiny_tensors_do_not_make_the_pairs_of_candidates_dear() -> None:
    """Pairs of eight relatives are 28: they cost less than eight comparisons with the child."""
    sample = np.arange(1024, dtype=np.float16).tobytes()
    tensors = {f"model.layers.{n // 9}.w{n % 9}.weight": TensorPrint("F32", (8, 8)) for n in range(9000)}
    whole = Fingerprint(tensors | {"model.embed_tokens.weight": TensorPrint("F32", (32, 32), "a" * 64, sample)})
    begun = time.thread_time()
    likeness = compare_prints(whole, whole)
    once = time.thread_time() - begun
    assert likeness.related is Related.YES
    kin: Any = [SimpleNamespace(model=SimpleNamespace(key=key)) for key in range(8)]
    begun = time.thread_time()
    found = _alike([Match(kin=one, likeness=likeness) for one in kin], dict.fromkeys(range(8), whole))
    assert len(found) == 28 and all(found.values())
    assert time.thread_time() - begun < 8 * once

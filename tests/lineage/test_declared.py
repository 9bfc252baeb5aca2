"""What a user would lose: the parent that a card names, and with it the licence that binds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.lineage import declared_edges
from ecotone.lineage.declared import EDGE_LIMIT, UNREADABLE
from ecotone.vocabulary import Relation


def edges(**card: object) -> list[tuple[str, Relation, bool]]:
    return [(e.parent, e.relation, e.inferred) for e in declared_edges(card)]


def test_a_base_model_is_a_finetune_unless_the_card_says_otherwise() -> None:
    assert edges(base_model="a/b") == [("a/b", Relation.FINETUNE, True)]
    assert edges(base_model=["a/b"], base_model_relation="quantized") == [("a/b", Relation.QUANTISED, False)]
    assert edges(base_model="a/b", base_model_relation=" Merge ") == [("a/b", Relation.MERGE, False)]
    assert edges(base_model="a/b", base_model_relation="sibling") == [("a/b", Relation.FINETUNE, True)]
    assert edges(base_model="a/b", library_name="peft") == [("a/b", Relation.ADAPTER, True)]
    assert edges(base_model=["a/b", "c/d"]) == [("a/b", Relation.MERGE, True), ("c/d", Relation.MERGE, True)]


def test_an_adapter_configuration_names_its_base_too() -> None:
    found = declared_edges({}, adapter_config={"base_model_name_or_path": "a/b"})
    assert [(e.parent, e.relation, e.field) for e in found] == [("a/b", Relation.ADAPTER, "adapter_config.json")]
    both = declared_edges({"base_model": "a/b"}, adapter_config={"base_model_name_or_path": "a/b"})
    assert [(e.parent, e.relation) for e in both] == [("a/b", Relation.ADAPTER)]


def test_datasets_are_parents_and_addresses_are_cut_to_ids() -> None:
    assert edges(datasets=["squad", "squad", "x/y"]) == [
        ("squad", Relation.TRAINED_ON, False),
        ("x/y", Relation.TRAINED_ON, False),
    ]
    assert edges(base_model="https://huggingface.co/meta-llama/Llama-2-7b/")[0][0] == "meta-llama/Llama-2-7b"


def test_an_adapter_names_the_commit_of_its_base() -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    for told, wanted in ((sha, sha), ("main", None), (None, None), (7, None), (sha + "0", None)):
        config = {"base_model_name_or_path": "a/b", "revision": told}
        found = declared_edges({"base_model": ["a/b", "c/d"]}, adapter_config=config)
        assert [(e.parent, e.revision) for e in found] == [("a/b", wanted), ("c/d", None)]


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=10,
)
FIELDS = st.sampled_from(["base_model", "base_model_relation", "datasets", "library_name"])


@settings(deadline=None)
@given(
    st.dictionaries(FIELDS, JUNK),
    st.one_of(st.none(), st.just({}), st.dictionaries(st.just("base_model_name_or_path"), JUNK)),
)
def test_junk_in_a_card_is_passed_over(card: dict[str, object], adapter: dict[str, object] | None) -> None:
    for edge in declared_edges(card, adapter_config=adapter):
        assert edge.parent
        assert len(edge.parent) <= 200


def test_edges_are_bounded() -> None:
    assert len(edges(base_model=[f"a/{i}" for i in range(10_000)])) == EDGE_LIMIT


def test_a_card_tells_what_made_its_data_and_when() -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    found = declared_edges(
        {
            "generated_by": [
                {"model": "team/chat", "revision": sha},
                {"provider": "openai", "model": "gpt-4", "from": "2023-05-01", "to": "2023-06-30"},
                {"provider": "anthropic"},
                "https://huggingface.co/a/b",
            ]
        }
    )
    assert [(e.parent, e.revision, e.relation) for e in found] == [
        ("team/chat", sha, Relation.GENERATED_BY),
        ("openai/gpt-4", None, Relation.GENERATED_BY),
        ("anthropic/api", None, Relation.GENERATED_BY),
        ("a/b", None, Relation.GENERATED_BY),
    ]
    assert found[1].generator is not None
    assert (str(found[1].generator.since), str(found[1].generator.until)) == ("2023-05-01", "2023-06-30")


def test_what_made_data_does_not_vanish_by_being_unreadable_or_one_of_many() -> None:
    for value in (7, [{}], [["x"]], {"model": 5}, [{"model": "x" * 300}], {"model": "a/b\nc"}):
        assert [e.parent for e in declared_edges({"generated_by": value})] == [UNREADABLE], value
    many = declared_edges({"generated_by": [f"a/m{n}" for n in range(300)]})
    assert UNREADABLE in [e.parent for e in many]
    odd = declared_edges({"generated_by": {"model": "a/b", "revision": "main", "from": "yesterday", "terms": "x y"}})
    assert [(e.parent, e.revision) for e in odd] == [("a/b", None)]

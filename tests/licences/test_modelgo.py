"""ModelGo's eight published workflows: what its authors' analyser refuses, this engine refuses, by clause.

ModelGo counts errors and warnings for each work; the engine gives one decision. What is compared:

- publishing the result under ModelGo's result licence is refused exactly when ModelGo reports an error;
- the works that refuse are the works that ModelGo's errors name; each difference stands in `DIFFERENCES` with the
  clause of the primary text;
- every work whose terms ModelGo carries to the result (its restrictions) binds the result here too.

How a workflow is read: policy `sell` is a commercial purpose, `share` a non-commercial one; `combine` keeps the parts
(component_of), `amalgamate` melts them (merge), `train` and `modify` are fine-tuning, training data trained_on, `embed`
is a translation (converted), `distill` and `generate` go through outputs. Warnings (a licence made for another type of
work) are advice about labels and decide nothing here. Where ModelGo invents "Unlicense" for a result that nobody
dedicated (one of the overrides given with the data), the publisher's own label stands.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ecotone.licences import Decision, Edge, Family, KnowledgeBase, Node, Use, identify, judge
from ecotone.licences.composition import compose
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
OURS = {
    "LGPL-LR": "LGPLLR",
    "GPL-3.0": "GPL-3.0-only",
    "BigScience-BLOOM-RAIL-1.0": "bigscience-rail-1.0",
    "CreativeML-OpenRAIL-M": "creativeml-openrail-m",
    "Llama2": "llama-2",
}
PURPOSES = {"sell": Purpose.COMMERCIAL, "share": Purpose.NONCOMMERCIAL}
RESULT = "the result"
PART, MELTED, TRAINED, TUNED = Relation.COMPONENT_OF, Relation.MERGE, Relation.TRAINED_ON, Relation.FINETUNE
TRANSLATED, MADE, DISTILLED = Relation.CONVERTED, Relation.GENERATED_BY, Relation.DISTILLED_OUTPUTS
A1, A2 = "A_StockSnap_Midjourney_gen_Thingverse", "A_Vimeo_G_I2VGen-XL"
WORKFLOWS: dict[str, list[tuple[str, str, Relation]]] = {
    "1a": [
        *((RESULT, part, PART) for part in ("E_arXiv", "E_StackExchange", "Deep-sequoia", "FreeLaw")),
        ("E_arXiv", "arXiv", TRANSLATED),
        ("E_arXiv", "BigTranslate", MADE),
        ("E_StackExchange", "StackExchange", TRANSLATED),
        ("E_StackExchange", "BigTranslate", MADE),
    ],
    "1b": [
        *((RESULT, part, PART) for part in ("E_Deep-sequoia", "E_PubMed", "BigTranslate")),
        ("E_Deep-sequoia", "Deep-sequoia", TRANSLATED),
        ("E_PubMed", "PubMed", TRANSLATED),
        ("E_PubMed", "BigTranslate", MADE),
    ],
    "2a": [
        *((RESULT, part, PART) for part in ("Baize", "BLOOM", "T_BERT")),
        ("T_BERT", "BERT", TUNED),
        ("T_BERT", "Wikipedia", TRAINED),
    ],
    "2b": [
        *((RESULT, part, PART) for part in ("DETR", "I2VGen-XL", "T_MaskFormer")),
        ("T_MaskFormer", "MaskFormer", TUNED),
        ("T_MaskFormer", "Flickr", TRAINED),
    ],
    "3": [
        (RESULT, "I2VGen-XL", MADE),
        (RESULT, "G_StableDiffusion", MADE),
        ("G_StableDiffusion", "StableDiffusion", MADE),
        ("G_StableDiffusion", "G_Baize", MADE),
        ("G_Baize", "Baize", MADE),
        ("G_Baize", "G_Whisper", MADE),
        ("G_Whisper", "Whisper", MADE),
        ("G_Whisper", "Jamendo", MADE),
    ],
    "4a": [
        *((RESULT, part, MELTED) for part in ("D_I2VGen-XL_X-Clip", "MaskFormer", "Whisper")),
        ("D_I2VGen-XL_X-Clip", "X-Clip", TUNED),
        ("D_I2VGen-XL_X-Clip", "I2VGen-XL", DISTILLED),
        ("D_I2VGen-XL_X-Clip", "Wikimedia", TRAINED),
    ],
    "4b": [
        *((RESULT, part, MELTED) for part in ("D_BLOOM_BERT", "Llama2", "BigTranslate")),
        ("D_BLOOM_BERT", "BERT", TUNED),
        ("D_BLOOM_BERT", "BLOOM", DISTILLED),
        ("D_BLOOM_BERT", "Wikipedia", TRAINED),
    ],
    "5": [
        (RESULT, A1, PART),
        (RESULT, A2, PART),
        *((A1, part, MELTED) for part in ("StockSnap", "Midjourney_gen", "Thingverse")),
        (A2, "Vimeo", MELTED),
        (A2, "G_I2VGen-XL", MELTED),
        ("G_I2VGen-XL", "I2VGen-XL", MADE),
        ("G_I2VGen-XL", "G_StableDiffusion", MADE),
        ("G_StableDiffusion", "StableDiffusion", MADE),
        ("G_StableDiffusion", "G_Baize", MADE),
        ("G_Baize", "Baize", MADE),
        ("G_Baize", "G_Whisper", MADE),
        ("G_Whisper", "Whisper", MADE),
        ("G_Whisper", "ccMixter", MADE),
    ],
}
SOLD_LGPLLR = (
    "LGPLLR",
    "1",
    "copies may be charged for: commerce is not withheld, only a licence for pay on what is modified",
)
SHARED_ND = "sharing unchanged, in a collection, is granted; only adapted material is not shared"
# work -> (entry, clause, why) for works that ModelGo refuses and we do not (-), and the other way (+)
DIFFERENCES: dict[str, dict[str, tuple[str, str, str]]] = {
    "1a": {
        "-FreeLaw": ("CC-BY-ND-4.0", "2(a)(1)", SHARED_ND),
        "-Deep-sequoia": SOLD_LGPLLR,
        "+StackExchange": ("CC-BY-SA-4.0", "3(b)", "a translation is adapted material, which LGPL-LR may not stand on"),
    },
    "1b": {"-E_Deep-sequoia": SOLD_LGPLLR},
    "2b": {"-I2VGen-XL": ("CC-BY-NC-ND-4.0", "2(a)(1)", SHARED_ND)},
    "4b": {
        "+BLOOM": (
            "bigscience-rail-1.0",
            "4, condition 1",
            "a model distilled from it is a derivative (1), whose limits the GPL refuses, as ModelGo itself says in 2a",
        )
    },
    "5": {f"-{A2}": ("CC-BY-NC-ND-4.0", "2(a)(1)", SHARED_ND)},
}
OVERRIDDEN = {"1a": "1a, 2b", "2b": "1a, 2b", "3": "3, 5", "5": "3, 5"}
OWN_LABEL = {"2b": "CC-BY-NC-4.0", "3": "CC-BY-4.0", "5": "CC-BY-NC-SA-4.0"}


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, dict[str, Any]]:
    told = json.loads((shared / "data" / "licence" / "modelgo" / "cases.json").read_text())
    return {case["case"]: case for case in told}


@pytest.fixture(scope="module")
def overrides(shared: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((shared / "data" / "licence" / "modelgo" / "overrides.json").read_text())[
        "overrides"
    ]
    return found


def workflow(case: dict[str, Any], label: str) -> Family:
    """The family of a case, with the licences that ModelGo gives its works."""
    data = {c for c, _, r in WORKFLOWS[case["case"]] if r in (TRANSLATED, MADE)}
    data |= {p for _, p, r in WORKFLOWS[case["case"]] if r in (TRANSLATED, TRAINED)} | {"Deep-sequoia", "FreeLaw"}
    if case["type"] == "data":
        data |= {RESULT, A1, A2, "StockSnap", "Midjourney_gen", "Thingverse", "Vimeo", "Jamendo", "ccMixter"}
    licences = {RESULT: label}
    for relied in case["relied"]:
        match = re.fullmatch(r"(\S+) \((\S+)\) via \S+", relied)
        assert match is not None
        licences[match[1]] = OURS.get(match[2], match[2])
    assert set(licences.values()) <= set(KB.entries)
    named = {n for child, parent, _ in WORKFLOWS[case["case"]] for n in (child, parent)}
    assert set(licences) == named
    nodes = {n: Node(n, None, (i,), kind="dataset" if n in data else "weights") for n, i in licences.items()}
    return Family(RESULT, nodes, tuple(Edge(c, p, r) for c, p, r in WORKFLOWS[case["case"]]))


def published(case: dict[str, Any], label: str) -> Decision:
    asked = Use(
        mode=Mode.PUBLISH_WEIGHTS,
        purpose=PURPOSES[case["policy"]],
        declared_licence=label,
        variables={"org.mau_at.2023-06": 1},
    )
    return judge(KB, workflow(case, label), asked)


def label_of(case: dict[str, Any]) -> str:
    result = case["result_license"]
    return OWN_LABEL[case["case"]] if result == "Unlicense" else OURS.get(result, result)


def refusing(decision: Decision) -> set[str]:
    return {r.node for r in decision.reasons if r.evaluation == "false"}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_the_workflow_is_refused_by_the_works_that_modelgo_names(
    name: str, cases: dict[str, dict[str, Any]], overrides: list[dict[str, str]]
) -> None:
    """A team that sells such a mix is told no, and by whom, before its customers find out."""
    case, differences = cases[name], DIFFERENCES.get(name, {})
    errors = {e.split()[1] for e in case["errors"]}
    expected = errors - {d[1:] for d in differences if d[0] == "-"} | {d[1:] for d in differences if d[0] == "+"}
    decision = published(case, label_of(case))
    assert refusing(decision) == expected
    assert decision.verdict is Verdict.DENY if expected else decision.verdict is Verdict.ALLOW_WITH_DUTIES
    for reason in decision.reasons:
        assert reason.clause and reason.means
    for entry, clause, _ in differences.values():
        assert any(f.clause.sec.startswith(clause) for f in KB.entry(entry).facts), (entry, clause)
    if name in OVERRIDDEN:
        assert any(o["case"] == OVERRIDDEN[name] for o in overrides)


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_every_work_whose_terms_modelgo_carries_binds_here_too(name: str, cases: dict[str, dict[str, Any]]) -> None:
    case = cases[name]
    told = [re.search(r"(?:form of|[0-9A-Za-z]\S* of) (\S+?)(?: according to \S+)?$", r) for r in case["restrictions"]]
    works = {m[1] for m in told if m is not None}
    label = label_of(case)
    bound = compose(KB, workflow(case, label), publishing=True, positions=KB.default_positions())
    known = {b.node for b in bound.inherited} | {w for w in works if w.startswith(("C_", "A_D_", "G_"))}
    assert works <= known, works - known
    assert works


def test_a_result_that_nobody_dedicated_is_not_in_the_public_domain(cases: dict[str, dict[str, Any]]) -> None:
    """ModelGo answers "Unlicense": whoever believes it gives away other people's non-commercial work."""
    for name in ("2b", "5"):
        assert published(cases[name], "Unlicense").verdict is Verdict.DENY
    free = published(cases["3"], "CC-BY-4.0")
    assert free.verdict is Verdict.ALLOW_WITH_DUTIES
    assert {(d.duty, d.entry) for d in free.duties} == {("comply_policy", "creativeml-openrail-m")}


def test_serving_a_gpl_mix_discloses_nothing_and_serving_a_modified_agpl_one_does(
    cases: dict[str, dict[str, Any]],
) -> None:
    graph = workflow(cases["2a"], "GPL-3.0-only")
    served = judge(KB, graph, Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL))
    assert "GPL-3.0-only" not in {d.entry for d in served.duties if d.duty == "disclose_source"}
    parent = Node("p", instruments=("AGPL-3.0-only",))
    child = Family("m", {"m": parent, "p": parent}, (Edge("m", "p", Relation.FINETUNE),))
    modified = judge(KB, child, Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, modified=True))
    assert "disclose_source" in {d.duty for d in modified.duties}


def test_no_version_stands_in_for_another_and_no_licence_is_invented(overrides: list[dict[str, str]]) -> None:
    assert len(overrides) == 5
    assert identify(KB, {"license": "Artistic-3.0"}).instruments == ("unknown",)
    assert identify(KB, {"license": "artistic-2.0"}).instruments == ("Artistic-2.0",)
    assert identify(KB, {"license": "cc-by-sa-3.0"}).instruments == ("CC-BY-SA-3.0",)
    assert identify(KB, {"license": "cc-by-sa-3.7"}).instruments == ("unknown",)

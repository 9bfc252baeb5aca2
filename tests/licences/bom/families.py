"""Families, cards and files as hypothesis draws them: any names, any mixture of known and unknown licences."""

from typing import Any

from hypothesis import strategies as st

from ecotone.licences import Edge, Family, KnowledgeBase, Node
from ecotone.licences.bom.facts import Bill, FilePart, Licensing, Metric, ModelFacts, Work, bill_of
from ecotone.vocabulary import EdgeStatus, Relation

KNOWLEDGE = KnowledgeBase.load()
_IDS = sorted(i for i, e in KNOWLEDGE.entries.items() if e.kind not in ("policy", "family"))
_ANY = st.text(max_size=30)
_DECLARED = st.one_of(
    st.none(),
    st.sampled_from(["apache-2.0", "mit", "llama3.1", "other (my terms)", "mit, apache-2.0", "MIT OR Apache-2.0"]),
    _ANY,
)
_HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def bills(draw: st.DrawFn) -> Bill:
    """A bill of one to six works with edges of all relations, cycles included; some works may not be seen."""
    names = draw(st.lists(st.one_of(st.just("me/x"), _ANY), min_size=1, max_size=6, unique=True))
    ids = [f"datasets/{n}" if draw(st.booleans()) and i else n or "?" for i, n in enumerate(names)]
    ids = list(dict.fromkeys(ids))
    nodes = {i: _node(draw, i, first=i == ids[0]) for i in ids}
    pairs = draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids), st.sampled_from(Relation)), max_size=8))
    edges = tuple(Edge(a, b, r, draw(st.sampled_from(EdgeStatus))) for a, b, r in pairs if a != b)
    works = [_work(draw, node) for node in nodes.values() if draw(st.booleans())]
    return bill_of(Family(ids[0], nodes, edges), works)


def _node(draw: Any, node_id: str, *, first: bool) -> Node:
    kind = "dataset" if node_id.startswith("datasets/") else draw(st.sampled_from(["weights", "weights", "api"]))
    instruments = tuple(draw(st.lists(st.sampled_from([*_IDS, "unknown", "none"]), max_size=3, unique=True)))
    return Node(node_id, instruments=instruments, kind=kind, visible=first or draw(st.booleans()))


def _work(draw: Any, node: Node) -> Work:
    paths = draw(st.lists(_ANY.filter(bool), max_size=3, unique=True))
    roles = st.sampled_from(["weights", "licence", "card", "other"])
    files = tuple(FilePart(path=p, sha256=draw(_HASHES), size=3, role=draw(roles)) for p in paths)
    metrics = tuple(Metric("accuracy", draw(_ANY) or "0", draw(_ANY)) for _ in range(draw(st.integers(0, 2))))
    return Work(
        id=node.id,
        kind=node.kind,
        revision=draw(st.one_of(st.none(), st.just("a" * 40))),
        hub=draw(st.sampled_from([None, "", "http://127.0.0.1:7070"])),
        released=draw(st.sampled_from([None, "2026-01-01T00:00:00Z"])),
        licensing=Licensing(declared=draw(_DECLARED), concluded=node.instruments, detected=node.instruments),
        files=files,
        model=ModelFacts(
            task=draw(st.one_of(st.none(), _ANY)), parameters=draw(st.integers(1, 10**12)), metrics=metrics
        ),
        source=draw(_ANY),
    )

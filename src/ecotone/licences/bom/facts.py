"""What a bill of materials is written from: works with their licences and files, and how they descend. Given, not read.

Whoever fills these in (a folder's reader, the catalogue) says what is known and why the rest is not. The writers of the
formats decide nothing: what is unknown here is said to be unknown there.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.expressions import check_expression
from ecotone.licences.family import Family
from ecotone.licences.identify import declared_entries
from ecotone.vocabulary import EdgeStatus, Relation

UNKNOWN = "unknown"
NONE = "none"
DATASETS = "datasets/"
OF_DATA = (Relation.TRAINED_ON, Relation.EVALUATED_ON)


class FilePart(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a work. `role` is weights, configuration, tokenizer, card, licence or other."""

    path: str
    sha256: str
    size: int
    role: str = "other"


class Licensing(msgspec.Struct, frozen=True, kw_only=True):
    """Declared and concluded licence of a work.

    Attributes:
        declared: as its card or provider writes it; None where nothing is declared.
        concluded: ids of the knowledge base that bind together; `unknown` and `none` among them mean no conclusion.
        detected: ids found in its licence files.
        reason: why there is no conclusion, or what contradicts.
        link: where the card says that the licence can be read.
    """

    declared: str | None = None
    concluded: tuple[str, ...] = ()
    detected: tuple[str, ...] = ()
    reason: str = ""
    link: str | None = None


class Metric(msgspec.Struct, frozen=True):
    """A measured figure: what was measured, its value as text, and on which data."""

    kind: str
    value: str
    slice: str = ""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What card and configuration say about a model itself. Texts are the card's own words, shortened."""

    task: str | None = None
    family: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    parameters_by_type: dict[str, int] = {}
    context: int | None = None
    library: str | None = None
    languages: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A model, API model or data set. `kind` is weights, api or dataset.

    Attributes:
        revision: a commit, where one is known.
        hub: address of the hub that holds it under this id; None where nobody knows, "" for the public one.
        released: UTC moment, `YYYY-MM-DDTHH:MM:SSZ`.
        visible: False for a work that the asker may not see; its name and licence are then not told.
        source: where the facts come from.
    """

    id: str
    kind: str = "weights"
    revision: str | None = None
    hub: str | None = None
    released: str | None = None
    licensing: Licensing = Licensing()
    files: tuple[FilePart, ...] = ()
    model: ModelFacts = ModelFacts()
    visible: bool = True
    source: str = ""

    @property
    def name(self) -> str:
        """The id as people write it, data sets without their prefix."""
        return self.id.removeprefix(DATASETS)


class Descent(msgspec.Struct, frozen=True, kw_only=True):
    """That one work comes from another, who says so and on what evidence."""

    child: str
    parent: str
    relation: Relation
    parent_revision: str | None = None
    status: EdgeStatus = EdgeStatus.DECLARED
    asserted_by: str = ""
    evidence: str = ""


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a document is written from: the subject first, all it comes from behind it."""

    subject: Work
    others: tuple[Work, ...] = ()
    descents: tuple[Descent, ...] = ()

    @property
    def works(self) -> tuple[Work, ...]:
        return (self.subject, *self.others)

    def parents(self, work: Work) -> tuple[Descent, ...]:
        return tuple(d for d in self.descents if d.child == work.id)

    def work(self, work_id: str) -> Work:
        return next((w for w in self.works if w.id == work_id), Work(id=work_id))


def bill_of(family: Family, works: Iterable[Work], descents: Iterable[Descent] = ()) -> Bill:
    """The bill of a family.

    Args:
        family: the subject with all its ancestors; what binds each node is its conclusion.
        works: what else is known of nodes; a node without one gets what the family knows.
        descents: edges that are known with their evidence; the family's other edges are taken as they are.
    """
    known = {w.id: w for w in works}
    told = {(d.child, d.parent, d.relation): d for d in descents}
    found: dict[str, Work] = {}
    ids = {*family.nodes, family.subject, *(e.child for e in family.edges), *(e.parent for e in family.edges)}
    for node_id in ids:
        node = family.node(node_id)
        given = known.get(node_id)
        if given is None:
            licensing = Licensing(concluded=node.instruments, reason=why_unknown(node.instruments, None))
            given = Work(id=node_id, kind=node.kind, revision=node.revision, licensing=licensing)
        found[node_id] = msgspec.structs.replace(given, visible=node.visible)
    names = _shown(found)
    edges = {
        told.get((e.child, e.parent, e.relation))
        or Descent(child=e.child, parent=e.parent, relation=e.relation, status=e.status)
        for e in family.edges
    }
    renamed = (_renamed(d, names) for d in edges)
    shown = {names[i]: _withheld(w, names[i]) for i, w in found.items()}
    subject = shown.pop(names[family.subject])
    return Bill(
        subject=subject,
        others=tuple(sorted(shown.values(), key=lambda w: w.id)),
        descents=tuple(sorted(renamed, key=lambda d: (d.child, d.parent, d.relation.value, d.parent_revision or ""))),
    )


def _shown(found: dict[str, Work]) -> dict[str, str]:
    """Names under which works appear: their ids, or a number for those that may not be seen."""
    hidden = sorted(i for i, w in found.items() if not w.visible)
    return {i: f"undisclosed-{hidden.index(i) + 1}" if i in hidden else i for i in found}


def _renamed(descent: Descent, names: dict[str, str]) -> Descent:
    """A descent under the names shown; what is said of a work that may not be seen goes with its name."""
    child, parent = names[descent.child], names[descent.parent]
    if (child, parent) == (descent.child, descent.parent):
        return descent
    unsaid = descent.asserted_by != "weights" and "weights: " in descent.evidence  # of a name that a card tells
    status = EdgeStatus.DECLARED if unsaid else descent.status
    return Descent(child=child, parent=parent, relation=descent.relation, status=status)


def _withheld(work: Work, name: str) -> Work:
    if work.visible:
        return work
    licensing = Licensing(concluded=(UNKNOWN,), reason="withheld: a work that you may not see")
    return Work(id=name, kind=work.kind, visible=False, licensing=licensing)


def why_unknown(concluded: tuple[str, ...], declared: str | None) -> str:
    """The sentence that stands where no conclusion can; "" where there is one."""
    if concluded and UNKNOWN not in concluded and NONE not in concluded:
        return ""
    if declared is not None:
        return f"the declared licence is not one that is known: {declared}"
    if NONE in concluded:
        return "no licence is declared and no licence text was found"
    return "nothing is known here about its licence"


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """A licence as documents name it: the id on the SPDX list, or a title with the reference used in expressions."""

    spdx: str | None
    title: str
    reference: str


def concluded_names(knowledge: KnowledgeBase, licensing: Licensing) -> tuple[Names, ...]:
    """The concluded licences; () where there is no conclusion, which `Licensing.reason` explains."""
    ids = licensing.concluded
    if not ids or UNKNOWN in ids or NONE in ids or any(i not in knowledge.entries for i in ids):
        return ()
    return tuple(names_of(knowledge, i) for i in ids)


def declared_names(knowledge: KnowledgeBase, licensing: Licensing) -> tuple[tuple[Names, ...], str | None]:
    """The declared licences that hold together, or an expression that offers a choice; ((), None) where neither."""
    text = licensing.declared
    if not text:
        return (), None
    checked = check_expression(knowledge, text)
    if checked.error is None and checked.normalised and len(checked.branches) > 1 and not checked.unknown:
        return (), checked.normalised
    listed = [part.strip() for part in text.split(",")]  # several in a list, all of them taken
    entries = [declared_entries(knowledge, part) for part in listed]
    return tuple(names_of(knowledge, e.id) for found in entries for e in found) if all(entries) else (), None


def names_of(knowledge: KnowledgeBase, entry_id: str) -> Names:
    """How an entry is named in documents."""
    entry = knowledge.entries.get(entry_id)
    if entry is None:
        return Names(spdx=None, title=entry_id, reference=f"LicenseRef-{entry_id}")
    return Names(spdx=entry.names.spdx, title=entry.title, reference=entry.expression.replace("++", "-plus-plus"))


def expression_of(names: Iterable[Names]) -> str:
    """Licences that bind together, as an SPDX expression."""
    return " AND ".join(dict.fromkeys(n.reference for n in names))


def plain(value: Any, most: int = 1000) -> str:
    """Text that any reader of JSON takes: no half characters, no control characters, bounded."""
    text = str(value).encode("utf-8", "replace").decode()
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:most]

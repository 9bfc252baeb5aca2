"""The family of a model as nested lists: what it comes from, and what came from it, each with its own verdict.

Private members stay unnamed, and have no verdict of their own: that would tell their licence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ecotone.accounts import Actor
from ecotone.catalog import UNTOLD, Catalog, Model
from ecotone.licences import Family, Use
from ecotone.policy import Stance
from ecotone.vocabulary import EcotoneError, Mode, Purpose, Verdict
from ecotone.web.licensing import VERDICT_MARKS, VERDICT_WORDS

_MOST_SHOWN = 60
_MOST_JUDGED = 24
_DEEPEST = 8


@dataclass(slots=True)
class Relative:
    """A member of the tree. `path` is its page, None when it has none here or may not be shown."""

    title: str
    path: str | None
    relation: str
    status: str
    licences: tuple[str, ...] = ()
    verdict: Verdict | None = None
    parents: list["Relative"] = field(default_factory=list)

    @property
    def word(self) -> str:
        return VERDICT_WORDS[self.verdict] if self.verdict is not None else ""

    @property
    def mark(self) -> str:
        return VERDICT_MARKS[self.verdict] if self.verdict is not None else ""


Judging = Callable[[Family], Verdict | None]


def judging(stance: Stance, mode: Mode, purpose: Purpose, variables: dict[str, object]) -> Judging:
    """The verdict on one member under a use; None for data, and once many were judged."""
    use = Use(mode=mode, purpose=purpose, modified=mode is Mode.PUBLISH_WEIGHTS, variables=variables)
    judged: dict[str, Verdict] = {}

    def verdict(family: Family) -> Verdict | None:
        node = family.node(family.subject)
        if node.kind == "dataset" or not node.visible:
            return None
        if node.id not in judged and len(judged) < _MOST_JUDGED:
            judged[node.id] = stance.judge_family(family, use).verdict
        return judged.get(node.id)

    return verdict


def ancestors(family: Family, judge: Judging) -> list[Relative]:
    """The parents of the subject, each with its own parents, each member once."""
    shown = {family.subject}

    def parents_of(child: str, depth: int) -> list[Relative]:
        found = []
        for edge in family.edges:
            if edge.child != child or len(shown) >= _MOST_SHOWN or depth > _DEEPEST:
                continue
            node = family.node(edge.parent)
            known = node.instruments != ("unknown",) or node.revision is not None
            relative = Relative(
                title=node.id if node.visible else UNTOLD,
                path=f"/{node.id}" if node.visible and known else None,
                relation=edge.relation.value,
                status=edge.status.value if node.visible else "",
                licences=node.instruments if node.visible else (),
                verdict=judge(Family(node.id, family.nodes, family.edges)),
            )
            if node.visible and node.id not in shown:
                shown.add(node.id)
                relative.parents = parents_of(node.id, depth + 1)
            found.append(relative)
        return found

    return parents_of(family.subject, 0)


def descendants(catalog: Catalog, model: Model, viewer: Actor, judge: Judging) -> list[Relative]:
    """The models whose newest revision names this one as a parent, as far as the viewer may see them."""
    found: list[Relative] = []
    for edge in catalog.children(model, viewer=viewer, limit=_MOST_SHOWN):
        relative = Relative(edge.child, f"/{edge.child}", edge.relation.value, edge.status.value)
        if len(found) < _MOST_JUDGED // 2:
            family = _family_of(catalog, edge.child, viewer)
            if family is not None:
                relative.verdict = judge(family)
                relative.licences = family.node(family.subject).instruments
        found.append(relative)
    return found


def _family_of(catalog: Catalog, model_id: str, viewer: Actor) -> Family | None:
    try:
        model = catalog.model(model_id, viewer=viewer)
        revision = catalog.revision(model) if model.head is not None else None
        return catalog.family(model, revision, viewer=viewer)
    except EcotoneError:  # it went away meanwhile
        return None

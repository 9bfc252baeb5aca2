"""The family of a model as nested lists: what it comes from, and what came from it. Private members stay unnamed."""

from dataclasses import dataclass, field

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, Model
from ecotone.licences import Family

_MOST_SHOWN = 60
_DEEPEST = 8


@dataclass(slots=True)
class Relative:
    """A member of the tree. `path` is its page, None when it has none here or may not be shown."""

    title: str
    path: str | None
    relation: str
    status: str
    licences: tuple[str, ...] = ()
    parents: list["Relative"] = field(default_factory=list)


def ancestors(family: Family) -> list[Relative]:
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
                title=node.id if node.visible else "a private model",
                path=f"/{node.id}" if node.visible and known else None,
                relation=edge.relation.value,
                status=edge.status.value,
                licences=node.instruments if node.visible else (),
            )
            if node.visible and node.id not in shown:
                shown.add(node.id)
                relative.parents = parents_of(node.id, depth + 1)
            found.append(relative)
        return found

    return parents_of(family.subject, 0)


def descendants(catalog: Catalog, model: Model, viewer: Actor) -> list[Relative]:
    """The models whose newest revision names this one as a parent, as far as the viewer may see them."""
    return [
        Relative(edge.child, f"/{edge.child}", edge.relation.value, edge.status.value)
        for edge in catalog.children(model, viewer=viewer, limit=_MOST_SHOWN)
    ]

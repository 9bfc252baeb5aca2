"""Pages of a family: the tree, and what would change if a licence changed."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from ecotone.catalog import Model, ModelNotFound
from ecotone.licences import Use
from ecotone.policy.trees import Tree, TreeEdge, TreeMember, Wanted, chosen, family_tree, with_checks
from ecotone.vocabulary import EcotoneError, EdgeStatus, Forbidden, Invalid, Mode, Purpose, RepoType, Verdict
from ecotone.web import asking, family_graph
from ecotone.web.endpoint import Visit
from ecotone.web.licensing import VERDICT_MARKS, VERDICT_WORDS
from ecotone.web.repository import head

_USUAL = (Mode.SERVE_API, Purpose.COMMERCIAL)
_NESTED = 100
_PAGE = 100
_MOST_EDGES = 400
_DEEPEST = 12
_STATUS_WORDS = {
    EdgeStatus.DECLARED: "declared: a card says so",
    EdgeStatus.VERIFIED: "verified: the weights show it",
    EdgeStatus.SUSPECTED: "suspected: the weights hint at it",
    EdgeStatus.REFUTED: "refuted: the weights contradict it",
}


@dataclass(slots=True)
class Leaf:
    """A member in the list, with the edges that lead to it and what hangs below it there."""

    member: TreeMember
    edges: list[tuple[int, TreeEdge]]
    path: str | None
    leaves: list["Leaf"] = field(default_factory=list)

    @property
    def word(self) -> str:
        return VERDICT_WORDS[self.member.verdict] if self.member.verdict is not None else ""

    @property
    def mark(self) -> str:
        return VERDICT_MARKS[self.member.verdict] if self.member.verdict is not None else ""


def show(visit: Visit) -> Response:
    """GET /{id}/family"""
    choices = asking.chosen(visit.query)
    mode, purpose = choices.use or _USUAL
    use = Use(mode=mode, purpose=purpose, modified=mode is Mode.PUBLISH_WEIGHTS, variables=choices.variables)
    name = _name(visit)
    stance = visit.services.policy.stance()
    clan = visit.catalog.clan(name, viewer=visit.actor)
    tree = family_tree(stance, clan, use)
    wanted = _wanted(visit)
    fitting = chosen(tree, wanted)
    offset = _offset(visit)
    numbers = _numbered(tree, fitting[offset : offset + _PAGE])
    tree = with_checks(tree, clan, numbers, visit.catalog.checks_between)
    kept = {"mode": mode.value, "purpose": purpose.value, "users": choices.users, **choices.told}
    query = urlencode({k: v for k, v in kept.items() if v})
    graph = family_graph.graph_of(tree, fitting, numbers, query, visit.root)
    listing = _Listing(visit, tree, numbers, query)
    subject = tree.member(tree.subject)
    nested = len(fitting) <= _NESTED and wanted.is_any
    return visit.page(
        "family.html",
        **_top(visit, name),
        subject=subject,
        leaf=Leaf(subject, [], None),
        tree=tree,
        graph=family_graph.svg(graph, subject.name),
        left_out=graph.left_out,
        above=listing.above(),
        below=listing.below(fitting) if nested else listing.flat(fitting[offset : offset + _PAGE]),
        nested=nested,
        found=len(fitting),
        total=sum(1 for m in tree.members if m.depth > 0),
        first=offset + 1,
        next_query=_next(visit, offset, len(fitting)),
        wanted=wanted,
        choices=choices,
        purpose=purpose.value,
        mode=mode.value,
        use_words=f"{mode}, {purpose}".replace("_", " "),
        query=query,
        verdict_words=VERDICT_WORDS,
        verdict_marks=VERDICT_MARKS,
        status_words=_STATUS_WORDS,
    )


def _name(visit: Visit) -> str:
    prefix = "datasets/" if visit.repo_type is RepoType.DATASET else ""
    if visit.repo_type is RepoType.SPACE:
        raise ModelNotFound(f"{visit.path['namespace']}/{visit.path['name']}")
    return f"{prefix}{visit.path['namespace']}/{visit.path['name']}"


def _top(visit: Visit, name: str) -> dict[str, Any]:
    """The head of a repository's page, where there is one; a deleted one has only its name."""
    start = "datasets/" if visit.repo_type is RepoType.DATASET else ""
    here = f"{visit.root}/{start}{visit.path['namespace']}/{visit.path['name']}"
    try:
        model: Model | None = visit.model()
    except EcotoneError:
        return {"model": None, "here_path": here, "name": name}
    return head(visit, model, "family") | {"name": name} if model else {}


def _wanted(visit: Visit) -> Wanted:
    query = visit.query
    verdict, status = query.get("verdict", ""), query.get("status", "")
    return Wanted(
        relation=query.get("relation", "")[:40],
        status=status if status in set(EdgeStatus) else "",
        verdict=verdict if verdict in set(Verdict) else "",
        letters=query.get("q", "").strip()[:100],
    )


def _offset(visit: Visit) -> int:
    text = visit.query.get("offset", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def _next(visit: Visit, offset: int, found: int) -> str | None:
    if offset + _PAGE >= found:
        return None
    kept = {k: v for k, v in visit.query.items() if k != "offset"}
    return urlencode([*list(kept.items())[:30], ("offset", str(offset + _PAGE))])


def _numbered(tree: Tree, shown: list[TreeMember]) -> dict[int, int]:
    """Numbers of the edges that the list shows, by their place in the tree."""
    wanted = {m.id for m in tree.members if m.depth <= 0} | {m.id for m in shown}
    places = [place for place, edge in enumerate(tree.edges) if edge.child in wanted]
    return {place: number for number, place in enumerate(places[:_MOST_EDGES], 1)}


class _Listing:
    """The tree as nested lists, each member once."""

    def __init__(self, visit: Visit, tree: Tree, numbers: dict[int, int], query: str) -> None:
        self._root, self._tree, self._query = visit.root, tree, query
        self._members = {m.id: m for m in tree.members}
        self._edges: dict[str, list[tuple[int, TreeEdge]]] = {}
        for place, edge in enumerate(tree.edges):
            if place in numbers:
                self._edges.setdefault(edge.child, []).append((numbers[place], edge))

    def _leaf(self, member: TreeMember, edges: list[tuple[int, TreeEdge]]) -> Leaf:
        path = f"{self._root}/{member.name}/family?{self._query}" if member.name else None
        return Leaf(member, edges, path)

    def above(self) -> list[Leaf]:
        """Parents of the subject, each with its own below it."""
        seen = {self._tree.subject}

        def parents(child: str, depth: int) -> list[Leaf]:
            found: dict[str, Leaf] = {}
            for number, edge in self._edges.get(child, ()):
                member = self._members[edge.parent]
                leaf = found.setdefault(edge.parent, self._leaf(member, []))
                leaf.edges.append((number, edge))
            for name, leaf in found.items():
                if name not in seen and depth < _DEEPEST:
                    seen.add(name)
                    leaf.leaves = parents(name, depth + 1)
            return list(found.values())

        return parents(self._tree.subject, 0)

    def below(self, shown: list[TreeMember]) -> list[Leaf]:
        """Children, each below its nearest parent that is shown."""
        leaves = {m.id: self._leaf(m, self._edges.get(m.id, [])) for m in shown}
        top: list[Leaf] = []
        for member in shown:
            nearest = [
                e.parent
                for _, e in leaves[member.id].edges
                if e.parent in leaves and self._members[e.parent].depth < member.depth <= _DEEPEST
            ]
            (leaves[nearest[0]].leaves if nearest else top).append(leaves[member.id])
        return top

    def flat(self, shown: list[TreeMember]) -> list[Leaf]:
        return [self._leaf(m, self._edges.get(m.id, [])) for m in shown]


# -- what if -----------------------------------------------------------------------------------------------------------
def impact(visit: Visit) -> Response:
    """GET /{id}/family/impact"""
    if visit.actor.kind != "user":
        raise Forbidden("What would change is told to users of this house, since it names projects and routes; log in.")
    name, query = _name(visit), visit.query
    choices = asking.chosen(query)
    effects, problem = None, ""
    licence, day = query.get("licence", "").strip()[:200], query.get("from", "").strip()[:20]
    if licence:
        try:
            use = None
            if choices.use is not None:
                use = Use(mode=choices.use[0], purpose=choices.use[1], variables=choices.variables)
            effects = visit.services.impact.asked(name, licence, day=_day(day), use=use, viewer=visit.actor)
        except (Invalid, Forbidden) as error:
            problem = error.message
    else:
        visit.catalog.clan(name, viewer=visit.actor, most=1)
    entries = sorted(visit.services.knowledge.entries.values(), key=lambda e: e.id.lower())
    answer = visit.page(
        "impact.html",
        **_top(visit, name),
        entries=entries,
        effects=effects,
        problem=problem,
        licence=licence,
        day=day,
        choices=choices,
        verdict_words=VERDICT_WORDS,
        verdict_marks=VERDICT_MARKS,
    )
    answer.status_code = 400 if problem else 200
    return answer


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no day; write it as 2027-01-31.", param="from") from None

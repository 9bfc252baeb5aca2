"""The family tree of a model as people and programs are shown it: members with verdicts, edges with evidence. Pure.

Ancestors stand above the subject (depth -1, -2 ...), descendants below. What may not be named keeps a number instead,
and has no verdict: that would tell its licence. A private descendant is there only where a visible one comes
through it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from ecotone.catalog import UNTOLD, Bond, Clan, Member
from ecotone.catalog.evidence import Evidence, checks_in, evidence_of
from ecotone.catalog.settled import as_declared, is_shown
from ecotone.licences import Use
from ecotone.policy.clans import ClanVerdicts
from ecotone.policy.stance import Stance
from ecotone.vocabulary import EdgeStatus, Verdict

_MOST_BONDS = 40_000


class TreeMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member. `id` is unique in the tree; `name` is its id in the hub, empty for what may not be named."""

    id: str
    name: str
    title: str
    depth: int
    kind: str
    licences: tuple[str, ...] = ()
    verdict: Verdict | None = None
    revision: str | None = None
    private: bool = False
    deleted: bool = False
    known: bool = True


class TreeEdge(msgspec.Struct, frozen=True, kw_only=True):
    """An edge by ids of members, with who asserted it and on what evidence. `said` is an administrator's
    word on it, with its reason."""

    child: str
    parent: str
    relation: str
    status: EdgeStatus
    asserted_by: str
    parent_revision: str | None
    evidence: Evidence
    said: str = ""


class Tree(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Members by depth; all edges between them. `counts`: descendants by relation to their parent, status and verdict.
    `cut`: the family is larger than what is walked."""

    subject: str
    members: tuple[TreeMember, ...]
    edges: tuple[TreeEdge, ...]
    counts: dict[str, dict[str, int]]
    cut: bool

    @cached_property
    def by_id(self) -> dict[str, TreeMember]:
        return {m.id: m for m in self.members}

    def member(self, member_id: str) -> TreeMember:
        return self.by_id[member_id]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which descendants: those with this relation or status on an edge to a parent, this verdict, these letters in
    their name. Empty is any."""

    relation: str = ""
    status: str = ""
    verdict: str = ""
    letters: str = ""

    @property
    def is_any(self) -> bool:
        return not (self.relation or self.status or self.verdict or self.letters)


def family_tree(stance: Stance, clan: Clan, use: Use) -> Tree:
    """The whole tree under a use."""
    depths, bonds = _placed(clan)
    ids = _ids(clan, depths)
    verdicts = ClanVerdicts(stance, clan)
    members = [
        _member(clan.members[key], ids[key], depth, verdicts, use)
        for key, depth in sorted(depths.items(), key=lambda kd: (kd[1], clan.members[kd[0]].name.casefold()))
    ]
    edges = [_edge(bond, ids, clan) for bond in bonds[:_MOST_BONDS]]
    below = {m.id: m for m in members if m.depth > 0}
    counts = {
        "relation": _counted(e.relation for e in edges if e.child in below),
        "status": _counted(e.status.value for e in edges if e.child in below),
        "verdict": _counted(m.verdict.value for m in below.values() if m.verdict is not None),
    }
    return Tree(subject=ids[clan.subject], members=tuple(members), edges=tuple(edges), counts=counts, cut=clan.cut)


Pair = tuple[int, str, int]


def with_checks(
    tree: Tree, clan: Clan, shown: Iterable[int], kept: Callable[[Iterable[Pair]], Mapping[Pair, Any]]
) -> Tree:
    """A tree whose edges have the checks of weights that lie under them.

    Args:
        shown: places of the edges that are shown; the others stay as they are.
        kept: gives checks as they are kept, for pairs of a child's row, its revision and a parent's row.
    """
    pairs: dict[int, Pair] = {}
    for place in shown:
        child, parent = (clan.members.get(end) for end in (tree.edges[place].child, tree.edges[place].parent))
        if child is not None and parent is not None and child.visible and parent.visible and child.row and parent.row:
            pairs[place] = (child.row, child.revision or "", parent.row)
    checks = kept(pairs.values())
    edges = list(tree.edges)
    for place, pair in pairs.items():
        evidence = edges[place].evidence
        if pair in checks and not evidence.checks:
            told = msgspec.structs.replace(evidence, checks=checks_in(checks[pair]))
            edges[place] = msgspec.structs.replace(edges[place], evidence=told)
    return msgspec.structs.replace(tree, edges=tuple(edges))


def chosen(tree: Tree, wanted: Wanted) -> list[TreeMember]:
    """Descendants that fit, nearest first."""
    fitting = {
        e.child
        for e in tree.edges
        if wanted.relation in ("", e.relation) and wanted.status in ("", e.status.value)
    }  # fmt: skip
    letters = wanted.letters.casefold()
    return [
        m
        for m in tree.members
        if m.depth > 0
        and m.id in fitting
        and letters in m.title.casefold()
        and (not wanted.verdict or (m.verdict is not None and m.verdict.value == wanted.verdict))
    ]


def _placed(clan: Clan) -> tuple[dict[str, int], list[Bond]]:
    """The depth of each member that is shown, and the edges between those."""
    depths = {key: 0 for key in clan.selves if key == clan.subject}
    depths |= {key: -up for key, up in clan.ancestors(clan.subject).items()}
    ways = _all_below(clan)
    through = {key for key, way in ways.items() if clan.members[key].visible for key in (key, *(b.child for b in way))}
    depths |= {key: len(ways[key]) for key in ways if key in through and key not in depths}
    pins = dict.fromkeys(clan.selves, clan.subject)
    moved = [
        msgspec.structs.replace(b, parent=pins.get(b.parent, b.parent)) for b in clan.bonds if b.child not in pins
    ] + [b for b in clan.bonds if b.child == clan.subject]
    return depths, [b for b in moved if b.child in depths and b.parent in depths]


def _all_below(clan: Clan) -> dict[str, tuple[Bond, ...]]:
    """Descendants, and children by refuted edges, which are shown struck out."""
    found = clan.descendants()
    for key in clan.selves:
        for bond in clan.below.get(key, ()):
            if not bond.binds:
                found.setdefault(bond.child, (bond,))
    return found


def _ids(clan: Clan, depths: dict[str, int]) -> dict[str, str]:
    hidden = sorted(key for key in depths if not clan.members[key].visible)
    numbers = {key: f"private-{number}" for number, key in enumerate(hidden, 1)}
    return {key: numbers.get(key, key) for key in depths}


def _member(member: Member, shown: str, depth: int, verdicts: ClanVerdicts, use: Use) -> TreeMember:
    if not member.visible:
        return TreeMember(id=shown, name="", title=UNTOLD, depth=depth, kind=member.kind, private=True)
    judged = verdicts.decision(member.key, use).verdict if member.kind != "dataset" else None
    return TreeMember(
        id=shown,
        name=member.name,
        title=member.key if len(member.key) < 140 else member.name,
        depth=depth,
        kind=member.kind,
        licences=member.instruments,
        verdict=judged,
        revision=member.revision,
        private=member.private,
        deleted=member.deleted,
        known=member.known,
    )


def _edge(bond: Bond, ids: dict[str, str], clan: Clan) -> TreeEdge:
    """The edge; of one with an end that may not be named no words and no commit, which could name it, nor what weights
    say of a name that the card tells."""
    edge = bond.edge
    told = clan.members[bond.child].visible and clan.members[bond.parent].visible
    return TreeEdge(
        child=ids[bond.child],
        parent=ids[bond.parent],
        relation=edge.relation.value,
        status=edge.status if told or is_shown(edge) else as_declared(edge).status,
        asserted_by=edge.asserted_by,
        parent_revision=edge.parent_revision if told else None,
        evidence=evidence_of(edge.evidence) if told else Evidence(),
        said="" if edge.said is None else edge.said.told if told else f"{edge.said.word.value} by an administrator",
    )


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())

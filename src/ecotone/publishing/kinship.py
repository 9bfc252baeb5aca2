"""What the likeness of weights says about descent: which candidates are parents, what the edges become, what is told.

Pure. Nothing that is kept here names a model but by its key: who may be told its name is asked when it is shown.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Final

import msgspec

from ecotone.catalog import BY_WEIGHTS, SAID, UNTOLD, Kin, LineageEdge, Said
from ecotone.lineage import Fingerprint
from ecotone.lineage.comparing import Check, Likeness, Related
from ecotone.vocabulary import EdgeStatus, EdgeWord, Relation

# Relations that leave their parent's values in the child's weights: only those can be missed there.
SEEN: Final = frozenset(
    {
        *(Relation.FINETUNE, Relation.CONTINUED_PRETRAIN, Relation.ADAPTER_MERGED, Relation.MERGE, Relation.QUANTISED),
        *(Relation.CONVERTED, Relation.PRUNED, Relation.DEPTH_PRUNED, Relation.UPCYCLED, Relation.VOCAB_EXTENDED),
        *(Relation.COMPONENT_OF, Relation.MIRROR_OF),
    }
)
INFERRED: Final = "(relation inferred)"
SAID_NOT: Final = "an administrator rejected that"
CAME_LATER: Final = "its weights came here later"
_TUNED: Final = frozenset({Relation.FINETUNE, Relation.CONTINUED_PRETRAIN, Relation.VOCAB_EXTENDED, Relation.UPCYCLED})
_FLOAT_BITS: Final = 16
_WHOLE: Final = 0.9999
_EQUAL: Final = 0.999_99
_AS_NEAR: Final = 1.05
_MUCH_NEARER: Final = 0.5
_DIGITS: Final = re.compile(r"\d+")


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate and how like it the child's weights are.

    Args:
        declared: whether the card names it.
        later: why it cannot be the parent, though it came first or is alike; empty when nothing speaks against it.
        relation: what the child would be to it, `also` what else it shows.
        full: whether all checks were made, not the first two alone.
        share: its part of a merge that explains the child.
        said: an administrator's word on the edge to it.
    """

    kin: Kin
    likeness: Likeness
    declared: bool = False
    later: str = ""
    relation: Relation = Relation.FINETUNE
    also: tuple[Relation, ...] = ()
    full: bool = False
    share: float | None = None
    said: Said | None = None

    @property
    def rejected(self) -> bool:
        return self.said is not None and self.said.word is EdgeWord.REJECTED

    @property
    def confirmed(self) -> bool:
        return self.said is not None and self.said.word is EdgeWord.CONFIRMED

    @property
    def in_merge(self) -> bool:
        return self.share is not None

    @property
    def related(self) -> bool:
        return self.likeness.related is not Related.NO

    @property
    def distance(self) -> float:
        """0 for a copy."""
        return max(0.0, 1.0 - max(self.likeness.cosine, self.likeness.shared))

    @property
    def status(self) -> EdgeStatus:
        return EdgeStatus.VERIFIED if self.likeness.related is Related.YES else EdgeStatus.SUSPECTED


class Alarm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that whoever reads of a model's descent should know.

    Args:
        code: `undeclared`, `suspected`, `not_shown`, `refuted`, `relation`, `turned`, `related`, `cycle`, `newer`.
        key: of the model that it is about.
        parent: the id of that model as the card has it, which anybody may read there.
        figures: what was measured, in words.
        says: what the card says, where the weights show something else.
    """

    code: str
    key: int | None = None
    parent: str | None = None
    figures: str = ""
    says: str = ""
    shows: str = ""

    @property
    def contradicts(self) -> bool:
        """Whether weights and card disagree."""
        return self.code in ("undeclared", "not_shown", "refuted", "relation", "turned")

    @property
    def settles(self) -> bool:
        """Whether an administrator's word on the edge answers it."""
        return self.contradicts or self.code in ("suspected", "newer")

    def told(self, names: Mapping[int, str]) -> str:
        """It as a sentence, with the names that the reader may be told."""
        name = self.parent or names.get(self.key or 0, UNTOLD)
        add = "Ask an administrator" if name == UNTOLD else f"Add `base_model: {name}` to README.md"
        match self.code:
            case "undeclared":
                return (
                    f"The weights descend from {name} ({self.figures}), which README.md does not name. {add}; its "
                    "terms bind this model either way."
                )
            case "suspected":
                unsaid = f"({self.figures}), which README.md does not name"
                return f"The weights may descend from {name} {unsaid}. {add} if they do."
            case "not_shown":
                return f"README.md names {name} as base model, but the weights do not show it ({self.figures})."
            case "refuted":
                return f"README.md names {name} as base model, which the weights refute ({self.figures})."
            case "relation":
                return f"README.md says {self.says} of {name}, the weights show {self.shows} ({self.figures})."
            case "turned":
                return (
                    f"README.md names {name} as base model; the weights show it the other way round ({self.figures})."
                )
            case "cycle":
                return f"{name} and this model name each other as their parent; one of the two cards is wrong."
            case "newer":
                return f"README.md names {name} as base model, whose weights came here after this model's."
        return (
            f"The weights are related to those of {name} ({self.figures}), which is no parent of theirs: {self.says}."
        )


def alarms_in(report: Mapping[str, Any]) -> list[Alarm]:
    """The alarms of a report that was kept."""
    return [msgspec.convert(alarm, Alarm) for alarm in report.get("alarms", ())]


def badge(alarms: Sequence[Alarm], edges: Iterable[LineageEdge]) -> str | None:
    """One word for a descent: the gravest of its alarms, else the least sure status of its edges; None for none."""
    if any(alarm.contradicts for alarm in alarms):
        return "contradicted"
    if any(alarm.code in ("suspected", "cycle", "newer") for alarm in alarms):
        return "questioned"
    statuses = {edge.status.value for edge in edges}
    return next((word for word in ("suspected", "verified", "declared") if word in statuses), None)


def words(likeness: Likeness) -> str:
    """The figures of a likeness in a few words."""
    said = [f"mean cosine {likeness.cosine:.3f} over {len(likeness.tensors)} tensors"] if likeness.tensors else []
    if likeness.shared > 0:
        said.insert(0, f"{likeness.shared:.0%} of the bytes in shared tensors")
    if likeness.grafted:
        said.append(f"{len(likeness.grafted)} tensors taken over")
    return ", ".join(said) or "no tensors of equal build"


# -- one candidate -----------------------------------------------------------------------------------------------------
def bits(fingerprint: Fingerprint) -> int:
    """Bits of a value in the type that most of the matrices have."""
    sizes: dict[str, int] = {}
    for tensor in fingerprint.tensors.values():
        if len(tensor.shape) >= 2:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + prod(tensor.shape)
    if not sizes:
        return 32
    digits = _DIGITS.findall(max(sizes, key=lambda name: sizes[name]))
    return int(digits[0][:2]) if digits else 32


def relation_of(likeness: Likeness, child: Fingerprint, parent: Fingerprint) -> Relation:
    """What the child is to its parent, as far as fingerprints tell; a fine-tune when nothing is special."""
    if likeness.grafted:
        return Relation.MERGE
    if likeness.missing_layers:
        return Relation.DEPTH_PRUNED
    if likeness.shared >= _WHOLE:
        return Relation.MIRROR_OF
    ours, theirs = bits(child), bits(parent)
    if ours < _FLOAT_BITS and ours < theirs:
        return Relation.QUANTISED
    if ours != theirs and likeness.cosine >= _EQUAL:
        return Relation.CONVERTED
    return Relation.FINETUNE


def later(child: Fingerprint, parent: Fingerprint, *, came_later: bool) -> str:
    """Why a candidate cannot be the parent; empty when nothing speaks against it. Fewer bits are made from more, and
    where those are equal, who came first is the parent."""
    ours, theirs = bits(child), bits(parent)
    if theirs < _FLOAT_BITS <= ours:
        return "it holds fewer bits"
    if came_later and not ours < _FLOAT_BITS <= theirs:
        return CAME_LATER
    return ""


# -- all candidates ----------------------------------------------------------------------------------------------------
def parents_among(matches: Sequence[Match], alike: Mapping[tuple[int, int], bool]) -> list[Match]:
    """Those that count as parents which the card does not name, nearest first.

    One that is like another parent, and not (much) nearer than it, is the child's sibling or grandparent: known by
    that other one.

    Args:
        alike: whether two of the candidates, by their keys (the smaller first), are related to each other.
    """
    taken = [m for m in matches if m.declared and m.related and not m.rejected]
    found = [m for m in matches if not m.declared and m.related and not m.later and m.said is not None]
    taken += [m for m in matches if m.confirmed and m.related and not m.declared]
    open_ones = [m for m in matches if not m.declared and m.related and not m.later and m.said is None]
    for match in sorted(open_ones, key=_nearest):
        if not any(_known_by(match, other, alike) for other in taken):
            found.append(match)
            taken.append(match)
    return found


def _nearest(match: Match) -> tuple[float, float, Any, int]:
    """Tensors that are equal bit for bit say more than any cosine; among equals, who came first."""
    return (-round(match.likeness.shared, 3), round(match.distance, 6), match.kin.since, match.kin.model.key)


def _known_by(match: Match, other: Match, alike: Mapping[tuple[int, int], bool]) -> bool:
    low, high = sorted((match.kin.model.key, other.kin.model.key))
    if not alike.get((low, high)) or match.in_merge:
        return False
    if other.declared:
        return match.distance >= _MUCH_NEARER * other.distance
    return other.distance <= _AS_NEAR * match.distance or other.status is EdgeStatus.VERIFIED


def edges_with(
    child: str,
    edges: Iterable[LineageEdge],
    matches: Sequence[Match],
    parents: Sequence[Match],
    ids: Mapping[str, int],
) -> list[LineageEdge]:
    """A revision's edges with what the weights say of each.

    Args:
        child: id of the model.
        edges: those that others assert; what weights said before is left out.
        ids: keys of the models that these edges name, by their id without case.
    """
    by_key = {match.kin.model.key: match for match in matches}
    others = any(
        match.likeness.related is Related.YES
        for match in matches
        if (match.declared or match in parents) and not match.rejected
    )
    made = []
    for edge in edges:
        match = by_key.get(ids.get(edge.parent.casefold(), 0))
        made.append(edge if match is None or edge.relation not in SEEN else _declared(edge, match, others))
    return [*made, *(_found(child, match) for match in parents)]


def _found(child: str, match: Match) -> LineageEdge:
    return LineageEdge(
        child=child,
        parent=match.kin.model.id,
        parent_revision=match.kin.revision,
        relation=match.relation,
        status=match.status,
        asserted_by=BY_WEIGHTS,
        evidence=f"weights: {words(match.likeness)}",
    )


def _declared(edge: LineageEdge, match: Match, others: bool) -> LineageEdge:
    """An edge of a card with its status. Weights do not show distillation, so one that they do not bear out stays as it
    was declared, unless all checks deny it and they bear out another."""
    evidence = f"{edge.evidence.partition(SAID)[0]}{SAID}{words(match.likeness)}"
    if match.likeness.related is not Related.YES:
        refuted = match.full and match.likeness.related is Related.NO and others and not match.in_merge
        status = EdgeStatus.REFUTED if refuted else EdgeStatus.DECLARED
        return msgspec.structs.replace(edge, status=status, evidence=evidence)
    free = INFERRED in edge.evidence and edge.relation is Relation.FINETUNE
    relation = match.relation if free else edge.relation
    return msgspec.structs.replace(edge, status=EdgeStatus.VERIFIED, relation=relation, evidence=evidence)


def alarms_of(
    edges: Sequence[LineageEdge], matches: Sequence[Match], parents: Sequence[Match], ids: Mapping[str, int]
) -> list[Alarm]:
    """What is to be told of a child's candidates. `edges` are those that others assert, as `edges_with` gave them."""
    found = [
        Alarm(
            code="undeclared" if match.status is EdgeStatus.VERIFIED else "suspected",
            key=match.kin.model.key,
            figures=words(match.likeness),
        )
        for match in parents
        if match.said is None
    ]
    by_key = {match.kin.model.key: match for match in matches}
    for edge in edges:
        match = by_key.get(ids.get(edge.parent.casefold(), 0))
        if match is not None and edge.relation in SEEN and match.said is None:
            found += _of_declared(edge, match)
    found += [
        Alarm(code="related", key=match.kin.model.key, figures=words(match.likeness), says=match.later)
        for match in matches
        if match.related and match.later and match.later != CAME_LATER and not match.declared and match.said is None
    ]
    found += [
        Alarm(code="related", key=match.kin.model.key, figures=words(match.likeness), says=SAID_NOT)
        for match in matches
        if match.related and match.rejected
    ]
    return found


def _of_declared(edge: LineageEdge, match: Match) -> list[Alarm]:
    about = Alarm(code="", key=match.kin.model.key, parent=edge.parent, figures=words(match.likeness))
    if match.likeness.related is Related.NO:
        code = "refuted" if edge.status is EdgeStatus.REFUTED else "not_shown"
        return [msgspec.structs.replace(about, code=code)]
    if match.later and match.full:
        return [msgspec.structs.replace(about, code="turned")]
    shown = match.relation
    alike = shown is edge.relation or shown in match.also or {shown, edge.relation} <= _TUNED
    if match.likeness.related is Related.YES and match.full and INFERRED not in edge.evidence and not alike:
        return [msgspec.structs.replace(about, code="relation", says=edge.relation.value, shows=shown.value)]
    return []


def compared(match: Match, answer: Mapping[str, Any], share: float | None) -> Match:
    """A match with what all checks say in the place of the first two.

    Args:
        answer: the comparison, as `Comparison.to_json` gives it.
        share: of this parent in a merge that explains the child; None when there is none.
    """
    likeness = match.likeness
    related = Related(answer["related"])
    if share is not None or (related is Related.NO and likeness.shared > 0):
        related = Related.YES
    likeness = msgspec.structs.replace(
        likeness,
        related=related,
        cosine=max(likeness.cosine, float(answer.get("likeness") or 0.0)),
        evidence=tuple(msgspec.convert(check, Check) for check in answer.get("evidence", ())),
    )
    told = Relation(answer["relation"]) if answer.get("relation") else match.relation
    mixed = share is not None or (told is Relation.COMPONENT_OF and bool(likeness.grafted))
    relation = Relation.MERGE if mixed else told
    toward = answer.get("direction") or {}
    turned = str(toward.get("why", "")) if toward.get("child") == "second" else ""
    return msgspec.structs.replace(
        match,
        likeness=likeness,
        relation=relation,
        later=match.later or turned,
        also=tuple(Relation(word) for word in answer.get("also", ())),
        full=True,
        share=share,
    )


def told_matches(matches: Sequence[Match], parents: Sequence[Match]) -> list[dict[str, Any]]:
    """The candidates as they are kept with the revision: figures and checks, models by key."""
    chosen = {match.kin.model.key for match in parents}
    return [
        {
            "key": match.kin.model.key,
            "revision": match.kin.revision,
            "deleted": match.kin.deleted,
            "declared": match.declared,
            "parent": (match.declared or match.kin.model.key in chosen) and not match.rejected,
            "related": match.likeness.related.value,
            "relation": match.relation.value if match.related else None,
            "shared": match.likeness.shared,
            "cosine": match.likeness.cosine,
            "later": match.later,
            "share": match.share,
            "checked": "all" if match.full else "fingerprints",
            "checks": checks_json(match.likeness.evidence),
        }
        for match in matches
    ]


def checks_json(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Checks as they are kept."""
    return [msgspec.to_builtins(check) for check in checks]

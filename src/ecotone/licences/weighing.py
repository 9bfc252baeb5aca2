"""Weighing: every instrument that binds a subject is evaluated under the use, and the worst answer wins."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ecotone.licences import outbound
from ecotone.licences.composition import UNTOLD, Composition, compose
from ecotone.licences.conditions import ASSUMED, Facts
from ecotone.licences.decision import Duty, Missing, Reason, today
from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.evaluate import PUBLISHING, Answer, Bound, actions_of, evaluate, worse
from ecotone.licences.family import Family, Use
from ecotone.licences.identify import declared_branches
from ecotone.licences.plan import plan_of
from ecotone.vocabulary import Mode, Verdict

HIDDEN = "hidden"
_LICENSOR = "licensor"
_ACCESS = "product.access"
_OF_OUTPUTS = ("use_outputs", "train_on_outputs", "distil")
_OF_GENERATED_DATA = ("use_outputs", "publish_outputs")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|copyright|unlicense)", re.IGNORECASE)
_FILES: Mapping[str, re.Pattern[str]] = {
    "include_licence": _LICENCE_FILE,
    "include_copyright": re.compile(rf"{_LICENCE_FILE.pattern}|notice", re.IGNORECASE),
    "notice_file": re.compile(r"notice", re.IGNORECASE),
}


@dataclass(slots=True)
class Weighed:
    """The verdict with everything that was said for and against it. `refused`: the declared licence may not stand."""

    verdict: Verdict
    composition: Composition
    publishing: bool
    total: Answer
    refused: bool = False
    assumed: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def weigh(
    knowledge: KnowledgeBase,
    family: Family,
    use: Use,
    positions: Mapping[str, str],
    *,
    with_suspected: bool = False,
    licensed: frozenset[tuple[str, str]] = frozenset(),
    composition: Composition | None = None,
    hurried: bool = False,
) -> Weighed:
    """Evaluate all instruments.

    Args:
        knowledge: the entries.
        family: the subject and its ancestors.
        use: what is wanted.
        positions: the choice for every position.
        with_suspected: as if the suspected ancestry held.
        licensed: (node, entry) pairs left aside, as if their licensors had agreed to the use.
        composition: what `composed` answered for the same arguments.
        hurried: only whether the answer passes is wanted: stop at the first that does not.
    """
    publishing = use.mode in PUBLISHING
    if composition is None:
        composition = composed(knowledge, family, use, positions, with_suspected=with_suspected)
    found = Weighed(Verdict.ALLOW, composition, publishing, Answer())
    found.total.positions |= composition.positions
    refusals = _refusals(knowledge, use, composition, licensed) if publishing else []
    if refusals:
        found.verdict, found.refused = Verdict.DENY, True
        if hurried:
            return found
    base = _variables(use, positions)
    if use.mode is Mode.EMBED_PRODUCT and _ACCESS not in base:
        found.assumed[_ACCESS] = ASSUMED[_ACCESS]
    kind = family.node(family.subject).kind
    owner = publishing and (use.declared_licence is not None or use.variables.get("actor") == _LICENSOR)
    binding = [b for b in _binding(composition, owner) if (b.node, b.entry.id) not in licensed]
    for bound in binding:
        actions = _actions(bound, use, kind)
        facts = Facts(_told(base, bound, modified=_modified(bound, use)))
        for part in _with_policies(knowledge, bound, found.warnings):
            _add(found, evaluate(part, actions, facts), bound)
        if not bound.path and _ended(bound.entry, str(base["date"])):
            _not_in_force(found, bound)
        if hurried and not found.verdict.passes:
            return found
        found.assumed |= facts.assumed if bound.visible else {}
    if owner and not binding:
        found.total.grants += _own_work(composition)
    if publishing:
        _weigh_publishing(family, use, found, refusals)
    _weigh_graph(found)
    if found.verdict is Verdict.ALLOW and found.total.duties:
        found.verdict = Verdict.ALLOW_WITH_DUTIES
    return found


def answers(
    knowledge: KnowledgeBase, family: Family, use: Use, positions: Mapping[str, str]
) -> Iterator[tuple[Bound, Answer]]:
    """What each instrument that binds the subject, and each policy that it incorporates, says by itself.

    Args:
        knowledge: the entries.
        family: the subject and its ancestors.
        use: what is wanted.
        positions: the choice for every position.
    """
    composition = composed(knowledge, family, use, positions)
    base, kind = _variables(use, positions), family.node(family.subject).kind
    for bound in (*composition.own, *composition.inherited):
        facts = Facts(_told(base, bound, modified=_modified(bound, use)))
        for part in _with_policies(knowledge, bound, []):
            yield part, evaluate(part, _actions(bound, use, kind), facts)


def composed(
    knowledge: KnowledgeBase, family: Family, use: Use, positions: Mapping[str, str], *, with_suspected: bool = False
) -> Composition:
    """The instruments that bind the subject under this use."""
    target = use.variables.get("target_model")
    return compose(
        knowledge,
        family,
        publishing=use.mode in PUBLISHING,
        positions=positions,
        with_suspected=with_suspected,
        target_model=target if isinstance(target, str) else None,
    )


def _lower(found: Weighed, verdict: Verdict) -> None:
    found.verdict = worse(found.verdict, verdict)


def _binding(composition: Composition, owner: bool) -> list[Bound]:
    """A publisher is not bound by the licence that it gives its own work, but must have named one."""
    if not owner:
        return [*composition.own, *composition.inherited]
    unnamed = [b for b in composition.own if b.entry.kind in ("unknown", "none")]
    return [*unnamed, *composition.inherited]


def _told(base: Mapping[str, Any], bound: Bound, *, modified: bool) -> dict[str, Any]:
    """The variables of the use, of the path, and of the node that the instrument governs."""
    values = {**base, "modified": modified}
    if bound.path:
        values["relation"] = bound.relation
    return {**values, **bound.told} if bound.told else values


def _modified(bound: Bound, use: Use) -> bool:
    return "derivative" in bound.objects if bound.path else use.modified or use.variables.get("modified") is True


def _actions(bound: Bound, use: Use, kind: str) -> tuple[str, ...]:
    """What must be allowed: that of the mode, or, where only facts on outputs came down, having used them so."""
    if bound.through_outputs and bound.facts is not None:
        return _OF_GENERATED_DATA if kind == "dataset" else _OF_OUTPUTS
    return actions_of(
        use.mode,
        "api" if "service" in bound.objects else "weights",
        modified=_modified(bound, use),
        hosting_distributes="hosted_service" in bound.entry.definitions.distribution_includes,
        only_calls=use.variables.get(_ACCESS) == "calls_endpoint"
        and "product_using" not in bound.entry.definitions.distribution_includes,
    )


_TOLD_OTHERWISE = frozenset({"purpose", "mode", "date"})  # fields of a use, which no variable replaces


def _variables(use: Use, positions: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "purpose": str(use.purpose),
        "mode": str(use.mode),
        "date": (use.date or today()).isoformat(),
    }
    if use.mode in PUBLISHING:
        values["target.distributed"] = True
    for name, choice in positions.items():
        values["policy." + name] = choice
    for name, value in use.variables.items():
        if not name.startswith("policy.") and name not in _TOLD_OTHERWISE:
            values[name] = _on_day(value, values["date"])
    return values


def _on_day(value: Any, day: str) -> Any:
    """Of a history, a map from days (ISO) to values, the latest value that began on or before the day."""
    if not isinstance(value, Mapping):
        return value
    begun = [d for d in value if isinstance(d, str) and _DAY.fullmatch(d) and d <= day]
    return value[max(begun)] if begun else None


def _with_policies(knowledge: KnowledgeBase, bound: Bound, warnings: list[str]) -> Iterable[Bound]:
    """The instrument and the use policies that it incorporates, which win where they are stricter."""
    yield bound
    if bound.facts is not None:
        return  # a few duties on outputs came down, not the agreement with its policy
    for part in bound.entry.incorporates:
        policy = knowledge.entry(part.ref)
        if part.dynamic and bound.visible:
            warnings.append(
                f"{bound.entry.id} {part.clause} follows the latest version of {policy.title}; "
                f"answered with that of {policy.effective.since or policy.status.reviewed}"
            )
        yield Bound(
            policy,
            bound.node,
            bound.path,
            plan_of(policy).strict,
            bound.objects,
            bound.visible,
            relation=bound.relation,
        )


def _ended(entry: Entry, day: str) -> bool:
    return entry.kind == "api_terms" and entry.effective.until is not None and entry.effective.until < day


def _not_in_force(found: Weighed, bound: Bound) -> None:
    _lower(found, Verdict.UNKNOWN)
    found.total.missing.append(Missing(what=f"the terms that followed {bound.entry.id}", entry=bound.entry.id))
    found.total.against.append(
        Reason(
            node=bound.node,
            path=(),
            entry=bound.entry.id,
            fact="effective",
            clause="effective until",
            means=f"these terms were in force until {bound.entry.effective.until} and say nothing of a later call",
            evaluation="unknown",
            authority=bound.entry.status.authority,
        )
    )


def _refusals(
    knowledge: KnowledgeBase, use: Use, composition: Composition, licensed: frozenset[tuple[str, str]]
) -> list[Reason]:
    """Why the licence declared for what is published may not stand beside what is inherited."""
    branches = declared_branches(knowledge, use.declared_licence)
    if not branches:
        own = tuple(b.entry for b in composition.own if b.entry.kind not in ("unknown", "none"))
        branches = (own,) if own else ()
    found: list[Reason] = []
    for branch in branches:  # each branch of an OR is offered to everybody, so each must be in order
        found += outbound.check(knowledge, branch, composition)
    return [r for r in found if (r.node, r.entry) not in licensed]


def _weigh_publishing(family: Family, use: Use, found: Weighed, refusals: list[Reason]) -> None:
    """The refusals of the declared licence come first; the name must begin as the duties say."""
    total = found.total
    if refusals:
        hidden = {(b.node, b.entry.id) for b in found.composition.inherited if not b.visible}
        total.against[:0] = [_hide(r) if (r.node, r.entry) in hidden else r for r in dict.fromkeys(refusals)]
    files = use.variables.get("files")
    if isinstance(files, (list, tuple)):
        total.duties = [_shipped(d, files) for d in total.duties]
    name = str(use.variables.get("name") or family.subject.rsplit("/", 1)[-1])
    total.duties = [_named(d, name) if d.duty == "name_prefix" else d for d in total.duties]
    prefixes = list({d.text: d for d in total.duties if d.duty == "name_prefix" and d.text}.values())
    for one in prefixes:
        for other in prefixes:
            if not (str(one.text).startswith(str(other.text)) or str(other.text).startswith(str(one.text))):
                _lower(found, Verdict.DENY)
                total.against.insert(0, _two_names(family, one, other))
                return


def _shipped(duty: Duty, files: Sequence[Any]) -> Duty:
    """A duty that asks for a file is missing when the files are told and none could be it by its name."""
    wanted = _FILES.get(duty.duty)
    if wanted is None:
        return duty
    found = any(wanted.match(str(f).rsplit("/", 1)[-1]) for f in files)
    return duty if found else msgspec.structs.replace(duty, status="missing")


def _named(duty: Duty, name: str) -> Duty:
    return msgspec.structs.replace(duty, status="kept" if name.startswith(str(duty.text)) else "missing")


def _two_names(family: Family, one: Duty, other: Duty) -> Reason:
    return Reason(
        node=family.subject,
        path=(),
        entry=one.entry,
        fact="name_prefix",
        clause=one.clause,
        means=f"the name must begin with {one.text!r} and, by {other.entry} {other.clause}, with {other.text!r}",
        evaluation="false",
        authority="primary",
    )


def _weigh_graph(found: Weighed) -> None:
    composition = found.composition
    if composition.unknown_data:
        found.total.possible.append(_unknown_data(composition.unknown_data))
    if composition.suspected:
        found.total.missing.append(Missing(what="whether the suspected ancestry holds", entry="lineage"))
        if found.publishing:
            _lower(found, Verdict.UNKNOWN)
    if composition.cyclic:
        found.warnings.append("the declared family has a cycle")


def _own_work(composition: Composition) -> list[Reason]:
    return [
        Reason(
            node=b.node,
            path=(),
            entry=b.entry.id,
            fact="own-work",
            clause="declared licence",
            means="the publisher's own work, offered under this licence, which binds those who receive it",
            evaluation="true",
            authority=b.entry.status.authority,
        )
        for b in composition.own
    ]


def _unknown_data(names: tuple[str, ...]) -> Duty:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Duty(
        duty="attribution",
        text=None,
        where=("model card",),
        entry="unknown",
        clause="licence of the data",
        means=f"the licence of training data is not known: {shown}",
        variables=("licence of the data",),
    )


def _add(found: Weighed, answer: Answer, bound: Bound) -> None:
    """Join an answer. Of a parent that the asker may not see, the answer and the duties apply; its text is not told."""
    _lower(found, answer.verdict)
    total = found.total
    if bound.visible:
        total.positions |= answer.positions
        total.against += answer.against
        total.grants += answer.grants
        total.duties += answer.duties
        total.possible += answer.possible
        total.missing += answer.missing
        total.secondary += answer.secondary
        return
    total.against += [_hide(r) for r in answer.against]
    total.duties += [_hide_duty(d) for d in answer.duties]
    total.possible += [_hide_duty(d) for d in answer.possible]
    total.missing += [
        Missing(what=m.what if bound.entry.id not in m.what else "the licence of " + UNTOLD, entry=HIDDEN)
        for m in answer.missing
    ]


def _hide(reason: Reason) -> Reason:
    return msgspec.structs.replace(
        reason,
        node=UNTOLD,
        entry=HIDDEN,
        fact=HIDDEN,
        clause="not shown",
        means="it does not allow this",
        position=None,
    )


def _hide_duty(duty: Duty) -> Duty:
    text = None if duty.duty == "comply_policy" else duty.text  # a policy's id would tell whose it is
    return msgspec.structs.replace(duty, text=text, entry=HIDDEN, clause="not shown", means="asked by " + UNTOLD)

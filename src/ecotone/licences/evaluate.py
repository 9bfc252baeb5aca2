"""One entry under one use: which actions it grants, forbids, limits, and which duties arise. Names no licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ecotone.licences.conditions import Check, Facts, always, conjunction, disjunction
from ecotone.licences.decision import Duty, Missing, Reason
from ecotone.licences.entries import Entry
from ecotone.licences.plan import About, Ready, plan_of
from ecotone.vocabulary import Mode, Verdict

ACTIONS: Mapping[Mode, tuple[str, ...]] = {
    Mode.RUN: ("run",),
    Mode.SERVE_API: ("run", "serve_api"),
    Mode.EMBED_PRODUCT: ("run", "distribute_in_product"),
    Mode.PUBLISH_WEIGHTS: ("redistribute_weights",),
    Mode.PUBLISH_ADAPTER: ("redistribute_derivative",),
    Mode.FINETUNE: ("modify", "finetune"),
    Mode.MERGE: ("modify", "merge"),
    Mode.QUANTISE: ("modify", "quantise"),
    Mode.TRAIN_ON_OUTPUTS: ("use_outputs", "train_on_outputs"),
    Mode.PUBLISH_OUTPUTS: ("use_outputs", "publish_outputs"),
    Mode.CALL_PROVIDER: ("run", "send_inputs"),
}
PUBLISHING = (Mode.PUBLISH_WEIGHTS, Mode.PUBLISH_ADAPTER)
_NOT_TOLD = {
    "none": "no licence is declared, and none found is not permission",
    "unknown": "the licence that is declared or found is not one that the knowledge base holds",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """An instrument as it binds the subject: the entry, how it got there, and which of its facts came along.

    `facts` is None when all of them did. `through_outputs` says that the subject is bound because it was made from
    outputs, so that the facts on training with outputs are asked, whatever is done with the subject. `relation` says
    what was made of the parent, `told` what is known of the node itself.
    """

    entry: Entry
    node: str
    path: tuple[str, ...]
    facts: frozenset[str] | None
    objects: frozenset[str]
    visible: bool = True
    through_outputs: bool = False
    relation: str | None = None
    told: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Answer:
    """What one bound instrument says."""

    verdict: Verdict = Verdict.ALLOW
    against: list[Reason] = field(default_factory=list)
    grants: list[Reason] = field(default_factory=list)
    duties: list[Duty] = field(default_factory=list)
    possible: list[Duty] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    secondary: list[str] = field(default_factory=list)
    positions: set[str] = field(default_factory=set)

    def lower(self, verdict: Verdict) -> None:
        self.verdict = worse(self.verdict, verdict)


_RANK = {verdict: verdict.rank for verdict in Verdict}


def worse(one: Verdict, other: Verdict) -> Verdict:
    """The worse of two answers."""
    return one if _RANK[one] <= _RANK[other] else other


def actions_of(
    mode: Mode, kind: str, *, modified: bool, hosting_distributes: bool, only_calls: bool = False
) -> tuple[str, ...]:
    """The actions that a mode needs on a node of this kind; all of them must be allowed.

    `only_calls`: the product calls a model that is hosted elsewhere, and the text does not count that as distribution.
    """
    found = ACTIONS[mode]
    if only_calls and mode is Mode.EMBED_PRODUCT:
        found = ("run",)
    if kind == "api":
        return (*found, "send_inputs") if "send_inputs" not in found else found
    if modified and mode is Mode.PUBLISH_WEIGHTS:
        found = ("redistribute_derivative",)
    if hosting_distributes and mode is Mode.SERVE_API:
        found = (*found, "redistribute_derivative" if modified else "redistribute_weights")
    return found


def evaluate(bound: Bound, actions: tuple[str, ...], facts: Facts) -> Answer:
    """The answer of one bound instrument for all required actions.

    Args:
        bound: the instrument.
        actions: what the use needs.
        facts: variables of the use, of this path and of the positions.
    """
    answer = Answer()
    if bound.facts is None and _ungoverned(bound):
        return _governs_else(bound, answer)
    plan = plan_of(bound.entry)
    for action in actions:
        _evaluate_action(bound, plan.about(action, bound.objects, bound.facts), action, facts, answer)
    duties = plan.duties(actions, bound.objects, bound.facts)
    answer.duties += duties.plain
    for trigger, made in duties.asked:
        _duty(trigger, made, facts, answer)
    answer.positions |= plan.positions(bound.facts)
    if answer.verdict is Verdict.ALLOW and answer.duties:
        answer.verdict = Verdict.ALLOW_WITH_DUTIES
    return answer


def _ungoverned(bound: Bound) -> bool:
    """Whether the text is of something else than weights: a licence of code never fills in for one of weights."""
    governs = bound.entry.governs
    return "weights" in bound.objects and "weights" not in governs and "service" not in governs


def _governs_else(bound: Bound, answer: Answer) -> Answer:
    answer.lower(Verdict.UNKNOWN)
    answer.missing.append(Missing(what=f"the licence of the weights of {bound.node}", entry=bound.entry.id))
    answer.against.append(
        Reason(
            node=bound.node,
            path=bound.path,
            entry=bound.entry.id,
            fact="governs",
            clause="whole text",
            means=f"this text governs {', '.join(bound.entry.governs)}, not weights",
            evaluation="unknown",
            authority=bound.entry.status.authority,
        )
    )
    return answer


def _evaluate_action(bound: Bound, about: About, action: str, facts: Facts, answer: Answer) -> None:
    """Prohibitions, terminations and limits first; then whether the action is granted at all."""
    free = True
    for ready in about.against:
        fact = ready.fact
        if fact.modality in ("prohibit", "terminate"):
            hit = _holds(ready.when, facts, ready, bound, answer)
            if hit is not False and ready.unless is not None:
                exception = _holds(ready.unless, facts, ready, bound, answer)
                hit = conjunction((hit, None if exception is None else not exception))
            if hit is not False:
                free = False
                _refuse(bound, ready, Verdict.DENY if hit else Verdict.UNKNOWN, answer)
        elif fact.modality == "limit" and facts.get("actor") not in fact.exempt:
            inside = _holds(ready.within, facts, ready, bound, answer)
            if inside is None and facts.values.get("policy.assume_below_thresholds") == "yes":
                facts.assumed[f"{bound.entry.id}:{fact.id}"] = "below the threshold"
                inside = True
            if inside is not True:
                verdict = Verdict(fact.otherwise or "deny") if inside is False else Verdict.UNKNOWN
                _refuse(bound, ready, verdict, answer)
    _grant(bound, about.permits, action, facts, answer, free=free)


def _grant(bound: Bound, permits: tuple[Ready, ...], action: str, facts: Facts, answer: Answer, *, free: bool) -> None:
    """Grants are needed: silence of a completely encoded text is no, of another is unknown."""
    if bound.facts is not None and not permits:
        return  # only some duties or bans came along this path; the grant is another instrument's matter
    truths = [(ready, _holds(ready.when, facts, ready, bound, answer)) for ready in permits]
    granted = disjunction(truth for _, truth in truths) if permits else (False if bound.entry.complete else None)
    if granted:
        giving = [ready for ready, truth in truths if truth]
        primary = [r for r in giving if r.authority == "primary"]
        if free and primary:
            answer.grants.append(_reason(bound, primary[0], "true"))
        if not primary:
            answer.lower(Verdict.UNKNOWN)
            answer.against.append(_reason(bound, giving[0], "unknown"))
            answer.secondary += [f"{bound.entry.id}:{r.fact.id}" for r in giving]
            answer.missing.append(Missing(what=f"primary text of {bound.entry.id}", entry=bound.entry.id))
        return
    answer.lower(Verdict.DENY if granted is False else Verdict.UNKNOWN)
    word = "false" if granted is False else "unknown"
    refusing = [ready for ready, truth in truths if truth is not True]
    if refusing:
        answer.against += [_reason(bound, r, word) for r in refusing[:1]]
    else:
        _silent(bound, action, word, answer)


def _silent(bound: Bound, action: str, word: str, answer: Answer) -> None:
    """No fact speaks of the action."""
    spoken = action.replace("_", " ")
    means = f"the text grants no right to {spoken}"
    if word == "unknown":
        means = _NOT_TOLD.get(bound.entry.kind, f"what the text says about {spoken} is not known")
        wanted = f"whether {bound.entry.id} grants {action}"
        if bound.entry.kind in _NOT_TOLD:
            wanted = f"the licence of {bound.node}"
        answer.missing.append(Missing(what=wanted, entry=bound.entry.id))
    if all(r.means != means for r in answer.against):
        answer.against.append(
            Reason(
                node=bound.node,
                path=bound.path,
                entry=bound.entry.id,
                fact=f"silent-{action}",
                clause="whole text",
                means=means,
                evaluation=word,
                authority=bound.entry.status.authority,
            )
        )


def _duty(trigger: Check, made: Duty, facts: Facts, answer: Answer) -> None:
    told, facts.missing = facts.missing, {}
    hit = trigger(facts)
    wanting, facts.missing = tuple(name for name in facts.missing if name not in told), told
    if hit:
        answer.duties.append(made)
    elif hit is None:  # an unknown trigger does not block, so its variable is not missing for the verdict
        answer.possible.append(msgspec.structs.replace(made, variables=wanting) if wanting else made)


def _holds(check: Check, facts: Facts, ready: Ready, bound: Bound, answer: Answer) -> bool | None:
    if check is always:
        return True
    told, facts.missing = facts.missing, {}
    truth = check(facts)
    if truth is None:
        answer.missing += [
            Missing(what=name, entry=bound.entry.id, clause=ready.fact.clause.sec) for name in facts.missing
        ]
    facts.missing = told | facts.missing
    return truth


def _refuse(bound: Bound, ready: Ready, verdict: Verdict, answer: Answer) -> None:
    answer.lower(verdict)
    word = {Verdict.DENY: "false", Verdict.UNKNOWN: "unknown"}.get(verdict, verdict.value)
    reason = _reason(bound, ready, word)
    if reason not in answer.against:
        answer.against.append(reason)
    if ready.authority == "secondary":
        answer.secondary.append(f"{bound.entry.id}:{ready.fact.id}")


def _reason(bound: Bound, ready: Ready, evaluation: str) -> Reason:
    return Reason(
        node=bound.node,
        path=bound.path,
        entry=bound.entry.id,
        fact=ready.fact.id,
        clause=ready.fact.clause.sec,
        means=ready.fact.means,
        evaluation=evaluation,
        authority=ready.authority,
        position=ready.fact.position,
    )

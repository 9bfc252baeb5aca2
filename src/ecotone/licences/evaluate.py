"""One entry under one use: which actions it grants, forbids, limits, and which duties arise. Names no licence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ecotone.licences.conditions import Facts, conjunction, disjunction, holds
from ecotone.licences.decision import Duty, Missing, Reason
from ecotone.licences.entries import Entry, Fact
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
_OUTPUT_ACTIONS = {"use_outputs", "publish_outputs", "train_on_outputs", "distil"}
_ANY = "any"
_NOT_TOLD = {
    "none": "no licence is declared, and none found is not permission",
    "unknown": "the licence that is declared is not one that the knowledge base holds",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """An instrument as it binds the subject: the entry, how it got there, and which of its facts came along."""

    entry: Entry
    node: str
    path: tuple[str, ...]
    facts: frozenset[str] | None
    objects: frozenset[str]
    visible: bool = True

    def carried(self) -> Iterable[Fact]:
        return self.entry.facts if self.facts is None else (f for f in self.entry.facts if f.id in self.facts)


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
        if verdict.rank < self.verdict.rank:
            self.verdict = verdict


def actions_of(mode: Mode, kind: str, *, modified: bool, hosting_distributes: bool) -> tuple[str, ...]:
    """The actions that a mode needs on a node of this kind; all of them must be allowed."""
    found = ACTIONS[mode]
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
    carried = list(bound.carried())
    for action in actions:
        _evaluate_action(bound, carried, action, facts, answer)
    for fact in carried:
        if fact.modality == "require":
            _duty(bound, fact, actions, facts, answer)
        if fact.position:
            answer.positions.add(fact.position)
    if answer.verdict is Verdict.ALLOW and answer.duties:
        answer.verdict = Verdict.ALLOW_WITH_DUTIES
    return answer


def _evaluate_action(bound: Bound, carried: list[Fact], action: str, facts: Facts, answer: Answer) -> None:
    about = [f for f in carried if _concerns(f, action, bound.objects)]
    forbidden = False
    for fact in about:
        if fact.modality in ("prohibit", "terminate"):
            hit = _holds(fact.when, facts, fact, bound, answer)
            if fact.modality == "prohibit" and hit is not False and fact.unless is not None:
                exception = _holds(fact.unless, facts, fact, bound, answer)
                hit = conjunction((hit, None if exception is None else not exception))
            if hit is not False:
                forbidden = True
                _refuse(bound, fact, Verdict.DENY if hit else Verdict.UNKNOWN, answer)
        elif fact.modality == "limit" and facts.get("actor") not in fact.exempt:
            inside = _holds(fact.within, facts, fact, bound, answer)
            if inside is None and facts.values.get("policy.assume_below_thresholds") == "yes":
                facts.assumed[f"{bound.entry.id}:{fact.id}"] = "below the threshold"
                inside = True
            if inside is not True:
                _refuse(bound, fact, Verdict(fact.otherwise or "deny") if inside is False else Verdict.UNKNOWN, answer)
    if not forbidden:
        _grant(bound, [f for f in about if f.modality == "permit"], action, facts, answer)


def _grant(bound: Bound, permits: list[Fact], action: str, facts: Facts, answer: Answer) -> None:
    """Grants are needed: silence of a completely encoded text is no, of another is unknown."""
    if bound.facts is not None and not permits:
        return  # only some duties or bans came along this path; the grant is another instrument's matter
    truths = [(fact, _holds(fact.when, facts, fact, bound, answer)) for fact in permits]
    granted = disjunction(truth for _, truth in truths) if permits else (False if bound.entry.complete else None)
    if granted:
        giving = [fact for fact, truth in truths if truth]
        primary = [f for f in giving if bound.entry.authority(f) == "primary"]
        answer.grants += [_reason(bound, f, "true") for f in (primary or giving)[:1]]
        if not primary:
            answer.lower(Verdict.UNKNOWN)
            answer.secondary += [f"{bound.entry.id}:{f.id}" for f in giving]
            answer.missing.append(Missing(what=f"primary text of {bound.entry.id}", entry=bound.entry.id))
        return
    verdict = Verdict.DENY if granted is False else Verdict.UNKNOWN
    answer.lower(verdict)
    word = "false" if granted is False else "unknown"
    refusing = [fact for fact, truth in truths if truth is not True]
    if refusing:
        answer.against += [_reason(bound, f, word) for f in refusing[:1]]
    else:
        silent = f"the text grants no right to {action.replace('_', ' ')}"
        if granted is None:
            silent = _NOT_TOLD.get(bound.entry.kind, f"what the text says about {action.replace('_', ' ')} is not known")
        if all(r.means != silent for r in answer.against):
            answer.against.append(_words(bound, f"silent-{action}", "whole text", silent, word))
    if granted is None and not permits:
        wanted = f"whether {bound.entry.id} grants {action}"
        if bound.entry.kind in _NOT_TOLD:
            wanted = f"the licence of {bound.node}"
        answer.missing.append(Missing(what=wanted, entry=bound.entry.id))


def _duty(bound: Bound, fact: Fact, actions: tuple[str, ...], facts: Facts, answer: Answer) -> None:
    trigger = fact.trigger
    if trigger is not None:
        if trigger.on and _ANY not in trigger.on and not set(trigger.on) & set(actions):
            return
        objects = bound.objects | ({"outputs"} if _OUTPUT_ACTIONS & set(actions) else set())
        if trigger.object and not objects & set(trigger.object):
            return
    before = dict(facts.missing)
    hit = holds(trigger.when if trigger else None, facts)
    wanting = tuple(name for name in facts.missing if name not in before)
    if hit is None:  # an unknown trigger does not block, so its variable is not missing for the verdict
        facts.missing = before
    if hit is False:
        return
    text, where = fact.params.get("text"), fact.params.get("where") or ()
    if isinstance(where, str):
        where = (where,)
    made = Duty(
        duty=fact.duty or "duty",
        text=text or fact.params.get("file") or fact.params.get("ref"),
        where=tuple(str(w) for w in where),
        entry=bound.entry.id,
        clause=fact.clause.sec,
        means=fact.means,
        variables=wanting,
    )
    (answer.duties if hit else answer.possible).append(made)


def _concerns(fact: Fact, action: str, objects: frozenset[str]) -> bool:
    if fact.modality not in ("permit", "prohibit", "limit", "terminate"):
        return False
    if fact.action and action not in fact.action and _ANY not in fact.action:
        return False
    if action in _OUTPUT_ACTIONS:
        return not fact.object or "outputs" in fact.object
    if action == "send_inputs":
        return not fact.object or bool({"inputs", "service"} & set(fact.object))
    return not fact.object or bool(objects & set(fact.object))


def _holds(condition: object, facts: Facts, fact: Fact, bound: Bound, answer: Answer) -> bool | None:
    before = set(facts.missing)
    truth = holds(condition, facts)
    if truth is None:
        answer.missing += [
            Missing(what=name, entry=bound.entry.id, clause=fact.clause.sec)
            for name in facts.missing
            if name not in before or all(m.what != name for m in answer.missing)
        ]
    return truth


def _refuse(bound: Bound, fact: Fact, verdict: Verdict, answer: Answer) -> None:
    answer.lower(verdict)
    word = {Verdict.DENY: "false", Verdict.UNKNOWN: "unknown"}.get(verdict, verdict.value)
    answer.against.append(_reason(bound, fact, word))
    if bound.entry.authority(fact) == "secondary":
        answer.secondary.append(f"{bound.entry.id}:{fact.id}")


def _reason(bound: Bound, fact: Fact, evaluation: str) -> Reason:
    return Reason(
        node=bound.node,
        path=bound.path,
        entry=bound.entry.id,
        fact=fact.id,
        clause=fact.clause.sec,
        means=fact.means,
        evaluation=evaluation,
        authority=bound.entry.authority(fact),
        position=fact.position,
    )


def _words(bound: Bound, fact: str, clause: str, means: str, evaluation: str) -> Reason:
    return Reason(
        node=bound.node,
        path=bound.path,
        entry=bound.entry.id,
        fact=fact,
        clause=clause,
        means=means,
        evaluation=evaluation,
        authority=bound.entry.status.authority,
    )

"""An entry made ready for evaluation: its conditions compiled, its facts looked up by action. Computed once."""

from dataclasses import dataclass

from ecotone.licences.conditions import Check, always, compiled
from ecotone.licences.decision import Duty
from ecotone.licences.entries import Entry, Fact

OUTPUT_ACTIONS = frozenset({"use_outputs", "publish_outputs", "train_on_outputs", "distil"})
_ABOUT_ACTIONS = ("permit", "prohibit", "limit", "terminate")
_ANY = "any"


@dataclass(frozen=True, slots=True)
class Ready:
    """A fact with its conditions as functions. `trigger` is the condition of a duty, `made` the duty that it makes."""

    fact: Fact
    when: Check
    unless: Check | None
    within: Check
    trigger: Check
    authority: str
    made: Duty | None


@dataclass(frozen=True, slots=True)
class About:
    """What an entry says of an action on some objects: prohibitions and endings and limits, then permissions."""

    against: tuple[Ready, ...]
    permits: tuple[Ready, ...]


@dataclass(frozen=True, slots=True)
class Duties:
    """Duties that arise, and those that arise if their condition holds."""

    plain: tuple[Duty, ...]
    asked: tuple[tuple[Check, Duty], ...]


class Plan:
    """The facts of one entry, ready. Look-ups are by what came down (`brought`, None for all) and kept.

    `strict` are the facts with which a policy binds that an agreement incorporates: all but permissions.
    """

    __slots__ = ("_about", "_duties", "_positions", "entry", "facts", "strict")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.facts = tuple(_ready(entry, fact) for fact in entry.facts)
        self.strict = frozenset(fact.id for fact in entry.facts if fact.modality != "permit")
        self._about: dict[tuple[str, frozenset[str], frozenset[str] | None], About] = {}
        self._duties: dict[tuple[tuple[str, ...], frozenset[str], frozenset[str] | None], Duties] = {}
        self._positions: dict[frozenset[str] | None, frozenset[str]] = {}

    def about(self, action: str, objects: frozenset[str], brought: frozenset[str] | None) -> About:
        """Facts that permit, prohibit, limit or end an action on these objects."""
        key = (action, objects, brought)
        found = self._about.get(key)
        if found is None:
            about = [r for r in self._brought(brought) if _concerns(r.fact, action, objects)]
            found = self._about[key] = About(
                against=tuple(r for r in about if r.fact.modality != "permit"),
                permits=tuple(r for r in about if r.fact.modality == "permit"),
            )
        return found

    def duties(self, actions: tuple[str, ...], objects: frozenset[str], brought: frozenset[str] | None) -> Duties:
        """Duties that these actions on these objects bring."""
        key = (actions, objects, brought)
        found = self._duties.get(key)
        if found is None:
            ready = [(r.trigger, r.made) for r in self._brought(brought) if _triggers(r.fact, actions, objects)]
            found = self._duties[key] = Duties(
                plain=tuple(made for trigger, made in ready if made is not None and trigger is always),
                asked=tuple((trigger, made) for trigger, made in ready if made is not None and trigger is not always),
            )
        return found

    def positions(self, brought: frozenset[str] | None) -> frozenset[str]:
        """Positions on which the facts that came down depend."""
        found = self._positions.get(brought)
        if found is None:
            found = frozenset(r.fact.position for r in self._brought(brought) if r.fact.position)
            self._positions[brought] = found
        return found

    def _brought(self, brought: frozenset[str] | None) -> tuple[Ready, ...]:
        return self.facts if brought is None else tuple(r for r in self.facts if r.fact.id in brought)


def plan_of(entry: Entry) -> Plan:
    """The plan of an entry, made when it is first asked for."""
    found: Plan | None = entry.__dict__.get("plan")
    if found is None:
        found = entry.__dict__["plan"] = Plan(entry)
    return found


def _ready(entry: Entry, fact: Fact) -> Ready:
    return Ready(
        fact=fact,
        when=compiled(fact.when),
        unless=compiled(fact.unless) if fact.unless is not None else None,
        within=compiled(fact.within),
        trigger=compiled(fact.trigger.when if fact.trigger else None),
        authority=entry.authority(fact),
        made=_duty(entry, fact) if fact.modality == "require" else None,
    )


def _duty(entry: Entry, fact: Fact) -> Duty:
    where = fact.params.get("where") or ()
    return Duty(
        duty=fact.duty or "duty",
        text=fact.params.get("text") or fact.params.get("file") or fact.params.get("ref"),
        where=(where,) if isinstance(where, str) else tuple(str(w) for w in where),
        entry=entry.id,
        clause=fact.clause.sec,
        means=fact.means,
    )


def _triggers(fact: Fact, actions: tuple[str, ...], objects: frozenset[str]) -> bool:
    trigger = fact.trigger
    if trigger is None:
        return True
    if trigger.on and _ANY not in trigger.on and set(actions).isdisjoint(trigger.on):
        return False
    found = objects if OUTPUT_ACTIONS.isdisjoint(actions) else objects | {"outputs"}
    return not trigger.object or not found.isdisjoint(trigger.object)


def _concerns(fact: Fact, action: str, objects: frozenset[str]) -> bool:
    if fact.modality not in _ABOUT_ACTIONS:
        return False
    if fact.action and action not in fact.action and _ANY not in fact.action:
        return False
    if not fact.object:
        return True
    if action in OUTPUT_ACTIONS:
        return "outputs" in fact.object
    if action == "send_inputs":
        return not {"inputs", "service"}.isdisjoint(fact.object)
    return not objects.isdisjoint(fact.object)

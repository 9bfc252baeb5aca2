"""An entry made ready for evaluation: its conditions compiled, its facts looked up by action. Computed once."""

from dataclasses import dataclass

from ecotone.licences.conditions import Check, compiled
from ecotone.licences.entries import Entry, Fact

OUTPUT_ACTIONS = frozenset({"use_outputs", "publish_outputs", "train_on_outputs", "distil"})
_ABOUT_ACTIONS = ("permit", "prohibit", "limit", "terminate")
_ANY = "any"


@dataclass(frozen=True, slots=True)
class Ready:
    """A fact with its conditions as functions. `trigger` is the condition of a duty."""

    fact: Fact
    when: Check
    unless: Check | None
    within: Check
    trigger: Check
    authority: str


class Plan:
    """The facts of one entry, ready."""

    __slots__ = ("_about", "duties", "entry", "facts")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.facts = tuple(
            Ready(
                fact=fact,
                when=compiled(fact.when),
                unless=compiled(fact.unless) if fact.unless is not None else None,
                within=compiled(fact.within),
                trigger=compiled(fact.trigger.when if fact.trigger else None),
                authority=entry.authority(fact),
            )
            for fact in entry.facts
        )
        self.duties = tuple(r for r in self.facts if r.fact.modality == "require")
        self._about: dict[tuple[str, frozenset[str]], tuple[Ready, ...]] = {}

    def about(self, action: str, objects: frozenset[str]) -> tuple[Ready, ...]:
        """Facts that permit, prohibit, limit or end an action on these objects."""
        found = self._about.get((action, objects))
        if found is None:
            found = tuple(r for r in self.facts if _concerns(r.fact, action, objects))
            self._about[(action, objects)] = found
        return found


_PLANS: dict[int, tuple[Entry, Plan]] = {}


def plan_of(entry: Entry) -> Plan:
    """The plan of an entry; it holds the entry, so that its identity stays its own."""
    found = _PLANS.get(id(entry))
    if found is None:
        found = _PLANS[id(entry)] = (entry, Plan(entry))
    return found[1]


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

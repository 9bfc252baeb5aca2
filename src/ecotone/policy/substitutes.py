"""Other models of the catalogue that may be used where one may not: for the same task, of the nearest size first."""

import math
from collections.abc import Iterable

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, Model
from ecotone.licences import Use, Way
from ecotone.policy.stance import Stance
from ecotone.vocabulary import EcotoneError, ModelKind

MOST = 3
MOST_JUDGED = 60
MOST_LOOKED_AT = 1000
_USABLE = ("open", "gated", "api")


def substitutes(catalog: Catalog, stance: Stance, model: Model, use: Use, viewer: Actor) -> tuple[Way, ...]:
    """At most three models that the viewer may see and that the same use is allowed for.

    Args:
        model: what may not be used so; its task (`pipeline_tag`) is that of the substitutes.
        use: as it was judged.
    """
    if model.pipeline_tag is None:
        return ()
    tagged = catalog.models(viewer=viewer, limit=MOST_LOOKED_AT).models
    found: list[Way] = []
    for other in list(_nearest(model, (m for m in tagged if _may_stand_in(m, model))))[:MOST_JUDGED]:
        try:
            revision = catalog.revision(other) if other.head is not None else None
            decision = stance.judge_family(catalog.family(other, revision, viewer=viewer), use)
        except EcotoneError:  # deleted meanwhile
            continue
        if decision.verdict.passes:
            licence = f" ({other.licence})" if other.licence else ""
            found.append(Way(change=f"use {other.id}{licence} instead", verdict=decision.verdict, kind="substitute"))
            if len(found) == MOST:
                break
    return tuple(found)


def with_substitutes(ways: Iterable[Way], others: Iterable[Way]) -> tuple[Way, ...]:
    """Ways to yes, smallest change first: another model comes after every change of this one, before a new contract."""
    own = list(ways)
    return (*(w for w in own if w.kind != "obtain"), *others, *(w for w in own if w.kind == "obtain"))


def _may_stand_in(other: Model, model: Model) -> bool:
    if other.pipeline_tag != model.pipeline_tag:
        return False
    usable = other.head is not None or other.facts.get("availability") in _USABLE
    return usable and other.id != model.id and (other.kind is ModelKind.WEIGHTS or model.kind is ModelKind.API)


def _nearest(model: Model, others: Iterable[Model]) -> list[Model]:
    """Those of known size by the ratio of sizes, then the others; of the same family first where equal."""
    size, family = _parameters(model), model.facts.get("family")

    def distance(other: Model) -> tuple[float, bool, str]:
        theirs = _parameters(other)
        ratio = abs(math.log(theirs / size)) if theirs and size else math.inf
        return ratio, other.facts.get("family") != family, other.id

    return sorted(others, key=distance)


def _parameters(model: Model) -> float | None:
    """The number of parameters that the starter catalogue states."""
    known = model.facts.get("parameters")
    return float(known["value"]) if known else None

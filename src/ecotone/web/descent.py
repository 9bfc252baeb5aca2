"""What a model's page says of its descent: one word for it, what the weights say against the card, where to read on."""

from dataclasses import dataclass

from ecotone.catalog import Model, Revision
from ecotone.publishing.kinship import Alarm, badge
from ecotone.web.endpoint import Visit

_MEANS = {
    "contradicted": "weights and card do not agree",
    "questioned": "the weights, or another card, raise a question",
    "suspected": "the weights hint at a parent, and nobody has settled it",
    "verified": "the weights show it",
    "declared": "the card says so; no weights confirm it",
}


@dataclass(frozen=True, slots=True)
class Told:
    """The word, what it means, and the alarms as sentences for this reader."""

    word: str
    means: str
    alarms: list[str]


def descent(visit: Visit, model: Model, revision: Revision | None) -> Told | None:
    """None where nothing is known of a model's descent."""
    alarms: list[Alarm] = []
    if revision is None:
        edges = visit.catalog.parents(model, None)
    else:
        weights = visit.catalog.weights(model, revision.id)
        if weights is not None:
            alarms = visit.services.publishing.descent.standing(model, weights)
        edges, hidden = visit.catalog.told_with_hidden(revision.edges, visit.actor)
        alarms = [alarm for alarm in alarms if alarm.parent not in hidden]
    word = badge(alarms, edges)
    if word is None:
        return None
    return Told(word, _MEANS[word], visit.services.publishing.descent.told(alarms, visit.actor))

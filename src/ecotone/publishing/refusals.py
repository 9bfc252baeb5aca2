"""The sentence of a refusal: it is what the uploader's command prints, so it names licence, clause and the way out."""

from collections.abc import Sequence
from typing import Any

from ecotone.licences import Family, KnowledgeBase
from ecotone.licences.outbound import outbound
from ecotone.policy import Outcome
from ecotone.vocabulary import Refused

_MOST_NAMED = 3
_AGAINST = ("false", "deny")


def refusal(
    model_id: str,
    declared: str | None,
    outcome: Outcome,
    knowledge: KnowledgeBase,
    *,
    family: Family | None = None,
    found: Sequence[str] = (),
    weights: str = "",
) -> Refused:
    """The error for an outcome that is not allowed.

    Args:
        family: that was judged, where a way out is looked for in it.
        found: the parents that weights showed and no card names.
        weights: the digest of the weights, by which an administrator may speak of them.
    """
    reasons = [r for r in outcome.reasons if r.get("evaluation") in _AGAINST] or list(outcome.reasons)
    under = f" under licence {declared!r}" if declared else ""
    said = f"{model_id} may not be published{under}"
    if reasons:
        said += ": " + "; ".join(dict.fromkeys(_because(r, model_id, knowledge) for r in reasons[:2])) + "."
    else:
        said += f": {outcome.message}"
    change = next((str(w["change"]) for w in outcome.would_allow if w.get("change")), None)
    nodes = family.nodes if family is not None else {}
    shown = [parent for parent in found if parent in nodes and nodes[parent].visible][:_MOST_NAMED]
    steps = [f"name its base in README.md (`base_model: {', '.join(shown)}`)"] if shown else []
    outward = outbound(knowledge, family).licence if family is not None and shown else None
    if outward and (change is None or "`license:" not in change):
        steps.append(f"declare the licence that its terms require (`license: {outward}`)")
    elif change:
        steps.append(change)
    said += f" To publish it: {', and '.join(steps)}." if steps else ""
    said += "" if steps else " Ask the owner of that licence, or an administrator here."
    if found:
        said += _if_not(model_id, shown, weights)
    return Refused(" ".join(said.split()), decision=outcome.to_json(), code="licence_refused")


def _if_not(model_id: str, shown: Sequence[str], weights: str) -> str:
    """What to do when the weights deceive: only an administrator can say so, of these very weights."""
    if not shown:
        return f" If it does not descend from that, ask an administrator to say so of the weights {weights}."
    command = f"ecotone lineage reject {model_id} {shown[0]} --weights {weights} --reason ..."
    return f" If it does not come from {shown[0]}, ask an administrator to say so: `{command}`."


def _because(reason: dict[str, Any], model_id: str, knowledge: KnowledgeBase) -> str:
    entry = str(reason.get("entry") or "")
    title = knowledge.entries[entry].title if entry in knowledge.entries else entry
    node = str(reason.get("node") or "")
    source = f"it descends from {node}, and " if node and node.casefold() != model_id.casefold() else ""
    means = str(reason.get("means") or "does not allow it").strip().rstrip(".")
    return f"{source}{title}, clause {reason.get('clause')}, says: {means}"

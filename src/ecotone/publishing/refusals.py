"""The sentence of a refusal: it is what the uploader's command prints, so it names licence, clause and the way out."""

from typing import Any

from ecotone.licences import KnowledgeBase
from ecotone.policy import Outcome
from ecotone.vocabulary import Refused

_AGAINST = ("false", "deny")


def refusal(model_id: str, declared: str | None, outcome: Outcome, knowledge: KnowledgeBase) -> Refused:
    """The error for an outcome that is not allowed."""
    reasons = [r for r in outcome.reasons if r.get("evaluation") in _AGAINST] or list(outcome.reasons)
    licence = f" under licence {declared!r}" if declared else ""
    said = f"{model_id} may not be published{licence}"
    if reasons:
        said += ": " + "; ".join(dict.fromkeys(_because(r, model_id, knowledge) for r in reasons[:2])) + "."
    else:
        said += f": {outcome.message}"
    change = next((str(w["change"]) for w in outcome.would_allow if w.get("change")), None)
    said += f" To publish it: {change}." if change else " Ask the owner of that licence, or an administrator here."
    return Refused(" ".join(said.split()), decision=outcome.to_json(), code="licence_refused")


def _because(reason: dict[str, Any], model_id: str, knowledge: KnowledgeBase) -> str:
    entry = str(reason.get("entry") or "")
    title = knowledge.entries[entry].title if entry in knowledge.entries else entry
    node = str(reason.get("node") or "")
    source = f"it descends from {node}, and " if node and node.casefold() != model_id.casefold() else ""
    means = str(reason.get("means") or "does not allow it").strip().rstrip(".")
    return f"{source}{title}, clause {reason.get('clause')}, says: {means}"

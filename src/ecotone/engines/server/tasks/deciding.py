"""Which task a body means: what the caller named, else what only one task sends, else what the model is for.

A masked language model answers text with a mask by filling it in and text without one by a vector, because both come
to the same address. `InferenceClient` sends `parameters` with every task but feature-extraction, so text with them from
that client never gets a vector, which the client could not read.
"""

from typing import Any

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Head
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.folders import Task
from ecotone.engines.server.tasks.zero_shot_classification import entailment

FEATURES, SIMILARITY = "feature-extraction", "sentence-similarity"
FILL_MASK, ZERO_SHOT = "fill-mask", "zero-shot-classification"
ANSWERING, TABLES = "question-answering", "table-question-answering"
TEXTS, TOKENS = "text-classification", "token-classification"
_ALIASES = {"sentiment-analysis": TEXTS, "ner": TOKENS, "embeddings": FEATURES}
_CLIENT = "hf_hub/"
_AT_ROOT = ("normalize", "prompt_name", "truncate", "truncation_direction")
_BY_HEAD = {
    Head.MASKS: (FILL_MASK,),
    Head.LABELS: (TEXTS,),
    Head.TOKEN_LABELS: (TOKENS,),
    Head.SPANS: (ANSWERING,),
}


def served(model: Known) -> tuple[str, ...]:
    """The tasks that the model can answer, the one that it is for first."""
    found: tuple[str, ...] = _BY_HEAD.get(model.head, ()) if model.head else ()
    if model.head == Head.LABELS and entailment(model.labels) is not None:
        found = (ZERO_SHOT, TEXTS) if model.task == Task.ZERO_SHOT_CLASSIFICATION else (TEXTS, ZERO_SHOT)
    others = (FEATURES, SIMILARITY)
    return (*found, *(others if model.task != Task.SIMILARITY else others[::-1]))


def decided(named: str, body: dict[str, Any], model: Known, agent: str = "") -> str:
    """The task to answer.

    Args:
        agent: the caller's `user-agent`.

    Raises:
        RequestError: the model cannot do what was asked.
    """
    tasks = served(model)
    wanted = _ALIASES.get(named, named)
    if wanted == "auto":
        no_vector = _CLIENT in agent and "parameters" in body
        wanted = _by_shape(body, model, no_vector=no_vector) or tasks[0]
        if wanted == FEATURES and no_vector and not any(name in body for name in _AT_ROOT):
            raise RequestError(
                f"This model does {', '.join(tasks)}, and was asked for something else; use the method of the client "
                "that is named like one of these, or another model.",
                code="unsupported_task",
            )
    if wanted not in tasks:
        raise RequestError(
            f"This model does not do {wanted}; it does {', '.join(tasks)}.", code="unsupported_task", status=400
        )
    return wanted


def _by_shape(body: dict[str, Any], model: Known, *, no_vector: bool) -> str | None:
    inputs, parameters = body.get("inputs"), body.get("parameters") or {}
    if isinstance(inputs, dict):
        for task, names in ((SIMILARITY, ("source_sentence",)), (ANSWERING, ("question", "context"))):
            if all(name in inputs for name in names):
                return task
        if "table" in inputs:
            return TABLES
    if "candidate_labels" in body or (isinstance(parameters, dict) and "candidate_labels" in parameters):
        return ZERO_SHOT
    if any(name in body for name in _AT_ROOT):
        return FEATURES
    if model.head == Head.MASKS and model.mask is not None:
        texts = inputs if isinstance(inputs, list) else [inputs]
        masked = any(isinstance(text, str) and model.mask[1] in text for text in texts)
        return FILL_MASK if masked or no_vector else FEATURES
    if model.task == Task.SIMILARITY:
        return FEATURES  # similarity has a shape of its own
    return None

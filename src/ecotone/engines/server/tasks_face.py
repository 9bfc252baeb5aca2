"""`/tasks/{task}` and `/tasks/auto` of encoders, in the shapes that `huggingface_hub.InferenceClient` reads.

Every answer says in `x-ecotone-task` which task it was and in `x-ecotone-usage` how many tokens it took.
"""

from collections.abc import Callable

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecotone.engines.server.encoding.engine import Encoders, Known
from ecotone.engines.server.encoding.wire import Endpoint, answer, body_of, computed, finished, prepared
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.tasks import (
    feature_extraction,
    fill_mask,
    question_answering,
    sentence_similarity,
    text_classification,
    token_classification,
    zero_shot_classification,
)
from ecotone.engines.server.tasks.deciding import decided
from ecotone.engines.server.tasks.work import Asked, Work, asked

Serves = Callable[[str], str]

TASKS: dict[str, Callable[[Asked, Known], Work]] = {
    "feature-extraction": feature_extraction.prepare,
    "fill-mask": fill_mask.prepare,
    "question-answering": question_answering.prepare,
    "sentence-similarity": sentence_similarity.prepare,
    "text-classification": text_classification.prepare,
    "token-classification": token_classification.prepare,
    "zero-shot-classification": zero_shot_classification.prepare,
}


def routes(encoders: Encoders, serves: Serves) -> list[Route]:
    """The route; `serves` refuses a model that is not this one, which a header may name."""

    async def task(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if b"x-ecotone-model" in headers:
            serves(headers[b"x-ecotone-model"].decode("latin-1"))
        raw = await body_of(receive)
        agent = headers.get(b"user-agent", b"").decode("latin-1")
        named = scope["path_params"]["task"]
        name, work = await prepared(len(raw), lambda: _read(encoders.known, named, raw, agent))
        found = await computed(encoders, work.texts, receive)
        value = await finished(found, work.answer)
        usage = f"{sum(map(len, work.texts))},0".encode()
        await answer(send, value, headers=[(b"x-ecotone-task", name.encode()), (b"x-ecotone-usage", usage)])

    return [Route("/tasks/{task}", Endpoint(task, RequestError.task_body), methods=["POST"])]


def _read(model: Known, named: str, raw: bytes, agent: str) -> tuple[str, Work]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError("The body is not JSON.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise RequestError("The body must be a JSON object with inputs and parameters.", code="invalid_json")
    task = decided(named[:60], body, model, agent)
    return task, TASKS[task](asked(body, agent, task), model)

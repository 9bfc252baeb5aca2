"""`/v1/embeddings` of encoders, in OpenAI's shape.

Beside OpenAI's fields the body may have `truncate` (true: a text over the limit is cut rather than refused) and
`truncation_direction` (`right`, the default, or `left`).
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecotone.engines.server import requests
from ecotone.engines.server.encoding.engine import Encoders
from ecotone.engines.server.encoding.texts import Found, Head, Text
from ecotone.engines.server.encoding.wire import Endpoint, answer, body_of, computed, prepared
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.requests import EmbeddingRequest, Prompt

Serves = Callable[[str], str]


def routes(encoders: Encoders, serves: Serves) -> list[Route]:
    """The route; `serves` gives the id to answer with for the model that a body names, or refuses it."""

    async def embeddings(scope: Scope, receive: Receive, send: Send) -> None:
        raw = await body_of(receive)
        asked, texts = await prepared(len(raw), lambda: _read(encoders, raw))
        model = serves(asked.model)
        found = await computed(encoders, texts, receive)
        tokens = sum(map(len, texts))
        await answer(
            send,
            {
                "object": "list",
                "data": _data(found, as_base64=asked.base64),
                "model": model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            },
        )

    return [Route("/v1/embeddings", Endpoint(embeddings, RequestError.body), methods=["POST"])]


def _read(encoders: Encoders, raw: bytes) -> tuple[EmbeddingRequest, list[Text]]:
    body = requests.body_of(raw)
    asked = requests.embedding(body)
    if asked.dimensions not in (None, encoders.width):
        raise RequestError(
            f"This model's embeddings have {encoders.width} dimensions and cannot be shortened; leave dimensions out.",
            code="unsupported_parameter",
            param="dimensions",
        )
    cut = encoders.known.cuts if body.get("truncate") is None else _flag(body, "truncate")
    left = _left(body)
    return asked, [_text(encoders, text, cut=cut, left=left) for text in asked.inputs]


def _text(encoders: Encoders, text: Prompt, *, cut: bool, left: bool) -> Text:
    sequences, pooling = encoders.known.sequences, encoders.known.pooling
    if not isinstance(text, str):
        return Text(sequences.checked(text, cut=cut, left=left), Head.VECTOR)
    text = pooling.prompt + text
    lower = text.lower() if pooling.lower_case else text
    return sequences.text(sequences.single(lower, cut=cut, left=left, field="input"), Head.VECTOR)


def _flag(body: dict[str, Any], name: str) -> bool:
    if not isinstance(body[name], bool):
        raise RequestError(f"{name} must be true or false.", code="invalid_value", param=name)
    return body[name] is True


def _left(body: dict[str, Any]) -> bool:
    wanted = str(body.get("truncation_direction") or "right").lower()
    if wanted not in ("left", "right"):
        raise RequestError("truncation_direction must be left or right.", param="truncation_direction")
    return wanted == "left"


def _data(found: Sequence[Found], *, as_base64: bool) -> list[dict[str, Any]]:
    pack = _packed if as_base64 else _listed
    return [{"object": "embedding", "index": place, "embedding": pack(one)} for place, one in enumerate(found)]


def _packed(vector: Found) -> str:
    """Little-endian float32, as base64 text."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()


def _listed(vector: Found) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers

"""One answer as a row: what made it, what it took, what was decided, and its texts where they may be told."""

import hashlib
from typing import Any

import msgspec

from ecotone.app.answers.plan import Sensitive
from ecotone.gateway.replaying import Kept
from ecotone.ledger.answers import Answer
from ecotone.privacy import Pseudonyms, TooDeep, inspect, quick
from ecotone.vocabulary import DataClass

MOST_TEXT = 1024 * 1024
HARMLESS = DataClass.INTERNAL
FEATURES = {
    "request_id": "string",
    "at": "string",
    "model": "string",
    "revision": "string",
    "base": "string",
    "provider": "string",
    "terms": "string",
    "answered_as": "string",
    "route": "string",
    "face": "string",
    "status": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "estimated": "bool",
    "decision": "string",
    "knowledge_base": "string",
    "data_class": "string",
    "pseudonymised": "bool",
    "texts": "string",
}

Message = dict[str, str]


def row_of(answer: Answer, text: Any, sensitive: Sensitive) -> dict[str, Any]:
    """The row.

    Args:
        text: what the project kept of the request; None for nothing, False for what its key does not open.
        sensitive: what becomes of texts above `HARMLESS`.

    Returns:
        the columns of `FEATURES` and `messages`. `texts` says what became of them: kept, masked, not kept, unreadable,
        `no text` where there is none to learn from, or `left out: CLASS`.
    """
    messages, answered_as, said = None, None, "not kept"
    data_class = DataClass(answer.data_class) if answer.data_class in set(DataClass) else None
    if text is False:
        said = "unreadable"
    elif text is not None:
        messages, answered_as = _pair(answer.face or "", text)
        said = "no text"
    if messages is not None:
        messages, data_class, said = _told(messages, data_class, answer.pseudonymised is True, sensitive)
    is_api = answer.revision is None
    return {
        "request_id": answer.request_id,
        "at": answer.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "model": answer.model,
        "revision": answer.revision,
        "base": answer.base,
        "provider": answer.backend if is_api else None,
        "terms": (answer.terms or "unknown") if is_api else None,
        "answered_as": answered_as,
        "route": answer.route,
        "face": answer.face,
        "status": answer.status,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "estimated": answer.estimate is True,
        "decision": answer.ruling,
        "knowledge_base": answer.knowledge_base,
        "data_class": data_class,
        "pseudonymised": answer.pseudonymised is True,
        "texts": said,
        "messages": messages,
    }


def pair_digest(row: dict[str, Any]) -> bytes | None:
    """Equal for rows with the same texts by the same model under the same terms; None without texts."""
    if row.get("messages") is None:
        return None
    told = msgspec.json.encode([row.get(n) for n in ("model", "revision", "base", "terms", "messages")])
    return hashlib.blake2b(told, digest_size=16).digest()


def _told(
    messages: list[Message], data_class: DataClass | None, was_masked: bool, sensitive: Sensitive
) -> tuple[list[Message] | None, DataClass, str]:
    """The messages as they may be told; the answer is looked through as well as the prompt."""
    try:
        found = (quick(messages) or inspect(messages)).data_class
    except TooDeep:
        found = DataClass.CONFIDENTIAL
    highest = max(found, data_class or found, key=lambda c: c.rank)
    if sensitive is Sensitive.KEEP or highest.rank <= HARMLESS.rank:
        return messages, highest, "kept"
    if sensitive is Sensitive.MASK or was_masked:
        masked = Pseudonyms().mask_json(messages)
        try:
            left = inspect(masked).data_class
        except TooDeep:
            left = DataClass.CONFIDENTIAL
        if left.rank <= HARMLESS.rank and highest is not DataClass.SECRET:
            return masked, highest, "masked"
    return None, highest, f"left out: {highest}"


def _pair(face: str, text: Any) -> tuple[list[Message] | None, str | None]:
    """The messages, the answer last, and the name that the answer gives its model."""
    if not isinstance(text, dict) or face not in ("chat", "completions"):
        return None, None
    request, body = text.get("request"), _body(face, text.get("answer"))
    if not isinstance(request, dict) or body is None:
        return None, None
    named = body.get("model")
    name = named[:200] if isinstance(named, str) else None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if face == "chat":
        told = first.get("message")
        said = _content(told.get("content")) if isinstance(told, dict) else ""
        asked = request.get("messages")
        before = [_message(m) for m in asked] if isinstance(asked, list) else []
    else:
        said = _content(first.get("text"))
        before = [{"role": "user", "content": _content(request.get("prompt"))}]
    if not said.strip() or not before or not any(m["content"].strip() for m in before):
        return None, name
    messages = [*before, {"role": "assistant", "content": said}]
    if sum(len(m["content"]) for m in messages) > MOST_TEXT:
        return None, name
    return messages, name


def _body(face: str, answer: Any) -> dict[str, Any] | None:
    """The whole answer, of a stream as well; None when it is not complete."""
    if not isinstance(answer, str) or not answer:
        return None
    raw: bytes | None = answer.encode("utf-8", "replace")
    try:
        if not answer.lstrip().startswith("{"):
            kept = Kept.of_stream(face, raw or b"")
            raw = kept.whole() if kept is not None else None
        found = msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        return {"role": "user", "content": ""}
    role = message.get("role")
    return {"role": role[:32] if isinstance(role, str) else "user", "content": _content(message.get("content"))}


def _content(content: Any) -> str:
    """A message's text; of a list of parts those that are texts."""
    if isinstance(content, str):
        return content.encode("utf-8", "replace").decode()
    if not isinstance(content, list):
        return ""
    parts = (p.get("text") if isinstance(p, dict) else p for p in content)
    return "\n".join(p for p in parts if isinstance(p, str))

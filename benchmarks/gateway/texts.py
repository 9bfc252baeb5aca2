"""Bodies of the load: what a support desk asks a model, in the sizes that the bars name."""

import json

SYSTEM = (
    "You answer for the service desk of a furniture shop. Keep to the terms of the warranty, name the paragraph "
    "that you rely on, and say what happens next and by when. Never promise money back before the order was looked up. "
    "Write in a friendly tone, in short sentences, and ask for what is missing, such as a picture."
)
QUESTION = (
    "Good morning, my office chair has begun to sink while I sit on it. I bought it last spring and it is used by one "
    "person only. I turned the lever and cleaned it, without success. Is that a case for the warranty, and must I send "
    "the whole chair to your workshop, or is a part enough?"
)
# no e-mail, number or name: what a scan spends is spent on looking
PASSAGE = (
    'The gas spring carries the seat; when its seal is worn, the seat sinks slowly under load. "Slowly" means more '
    "than a finger's breadth in an hour. The spring is a part of the frame in the sense of these terms.\n"
)
TEXT_BYTES = 65_536 // len(PASSAGE) * len(PASSAGE)


def chat(model: str, *, size: int = 0, stream: bool = False, usage: bool = False, directive: str = "") -> bytes:
    """A chat completion's body.

    Args:
        model: its name at the place.
        size: about so many bytes of text are added to the question.
        stream: ask for events.
        usage: ask for usage in them.
        directive: what the provider is told, e.g. `first=20 chunks=200 every=5`.
    """
    question = (f"[[provider {directive}]] " if directive else "") + QUESTION
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    if size:
        messages.append({"role": "user", "content": PASSAGE * (size // len(PASSAGE))})
    body: dict[str, object] = {"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256}
    if stream:
        body["stream"] = True
    if stream and usage:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body, separators=(",", ":")).encode()


def long_conversation(model: str, size: int) -> bytes:
    """A body of many messages of about 4 KB each."""
    turn = PASSAGE * (4096 // len(PASSAGE))
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i in range(size // len(turn) | 1)]
    return json.dumps({"model": model, "messages": messages, "max_tokens": 256}, separators=(",", ":")).encode()

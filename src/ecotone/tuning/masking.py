"""Which tokens of a chat row are trained: the assistant's, its end-of-turn token included, and no others.

Works on any tokenizer with a chat template: the prompt must be a prefix of prompt plus answer, in tokens, as it is when
serving. A template that breaks this, by rewriting earlier turns, may mark the assistant's turns itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Message = dict[str, Any]
IGNORED = -100


class BadRow(Exception):
    """A row that this model cannot learn; the text is the reason."""


class _Rewritten(BadRow):
    """The template writes a turn otherwise than it prompts for it."""


class Encoder:
    """Turns chat rows into tokens and labels by a tokenizer's own template.

    Args:
        tokenizer: of `transformers`, with a chat template.
        context: tokens that the model can take.
    """

    def __init__(self, tokenizer: Any, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        template = tokenizer.chat_template
        self._marked = isinstance(template, str) and "{% generation" in template.replace("{%-", "{%")
        self._reserved = sorted(_reserved(tokenizer), key=len, reverse=True)

    def encode(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Token ids and labels (`IGNORED` where nothing is learned), both of the row's length.

        Raises:
            BadRow: the row is too long, forges the template's own tokens, or the template does not take it.
        """
        plain: list[Message] = [{key: m[key] for key in ("role", "content", "name") if key in m} for m in messages]
        self._check_forgery(plain)
        weights = [m.get("weight", 1) for m in messages]
        try:
            ids, labels = self._by_prefix(plain, weights)
        except _Rewritten:
            if not (self._marked and all(weights)):
                raise
            ids, labels = self._by_markers(plain)
        if len(ids) > self._context:
            raise BadRow(f"{len(ids)} tokens, and the model takes {self._context}; shorten or split the row")
        if all(label == IGNORED for label in labels):
            raise BadRow("no token of it would be trained")
        return ids, labels

    def ends(self, labels: Sequence[int], stops: Iterable[int]) -> bool:
        """Whether a stop token is among those trained; a model that never sees one never learns to stop."""
        return bool(set(labels) & set(stops))

    def _check_forgery(self, messages: Sequence[Message]) -> None:
        for number, message in enumerate(messages, 1):
            found = next((token for token in self._reserved if token in message["content"]), None)
            if found is not None:
                raise BadRow(f"message {number} holds {found!r}, a token that the template itself writes")

    def _by_markers(self, messages: list[Message]) -> tuple[list[int], list[int]]:
        try:
            found = self._tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
        except Exception as error:
            raise BadRow(f"the chat template does not take it: {str(error)[:200]}") from None
        ids = list(found["input_ids"])
        return ids, [t if own else IGNORED for t, own in zip(ids, found["assistant_masks"], strict=True)]

    def _by_prefix(self, messages: list[Message], weights: Sequence[int]) -> tuple[list[int], list[int]]:
        whole = self._tokens(messages)
        labels = [IGNORED] * len(whole)
        for number, message in enumerate(messages):
            if message["role"] != "assistant" or not weights[number]:
                continue
            prompt = self._tokens(messages[:number], prompt=True)
            answered = self._tokens(messages[: number + 1])
            if answered[: len(prompt)] != prompt or whole[: len(answered)] != answered:
                raise _Rewritten(
                    f"the chat template writes message {number + 1} otherwise than it would prompt for it, so that "
                    "what is trained would not be what is asked"
                )
            labels[len(prompt) : len(answered)] = whole[len(prompt) : len(answered)]
        return whole, labels

    def _tokens(self, messages: list[Message], *, prompt: bool = False) -> list[int]:
        if not messages and not prompt:
            return []
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:
            raise BadRow(f"the chat template does not take it: {str(error)[:200]}") from None
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _reserved(tokenizer: Any) -> set[str]:
    """Texts that become one control token wherever they stand."""
    added = (token for token in tokenizer.added_tokens_decoder.values() if token.special)
    return {str(token) for token in added if str(token).strip()} | {t for t in tokenizer.all_special_tokens if t}

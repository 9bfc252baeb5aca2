"""A loaded model with what stands between a request and its computing thread: templates, tokens, limits."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ecotone.engines.server.embedding import Embedder, Vectors
from ecotone.engines.server.errors import RequestError, Unloadable
from ecotone.engines.server.folders import Plan, Task
from ecotone.engines.server.generation import Answer, Piece, Writer
from ecotone.engines.server.loading import Loaded, load
from ecotone.engines.server.pooling import Pooling, read
from ecotone.engines.server.requests import EmbeddingRequest, Prompt, Sampling, TextRequest

_LETTERS_A_TOKEN = 100  # no text of the context's length has more; longer ones are refused before they are tokenised


class Engine:
    """One model, ready to answer. Thread-safe.

    Raises:
        Unloadable: the model cannot be served.
    """

    def __init__(self, plan: Plan) -> None:
        self._loaded: Loaded = load(plan)
        self._tokenizer = self._loaded.tokenizer
        self._lock = threading.Lock()  # fast tokenizers are not to be used by two threads at once
        self.task = plan.task
        self._pooling: Pooling | None = None
        self._writer: Writer | None = None
        self._embedder: Embedder | None = None
        if self.task == Task.EMBEDDING:
            self._pooling = read(plan.weights)
            self._limit = min(self._pooling.max_tokens or self._loaded.context_length, self._loaded.context_length)
            self._embedder = Embedder(self._loaded, self._pooling)
        else:
            self._limit = self._loaded.context_length
            self._writer = Writer(self._loaded, self._decode)
        self._warm_up()

    def info(self) -> dict[str, Any]:
        """What the engine serves, and with which settings in effect."""
        found: dict[str, Any] = {
            "task": str(self.task),
            "context_length": self._limit,
            "dtype": self._loaded.dtype,
            "device": self._loaded.device,
            "parameters": self._loaded.parameters,
            "architecture": type(self._loaded.model).__name__,
            "chat": self.task == Task.TEXT_TO_TEXT or bool(self._template),
        }
        if self._pooling is not None:
            found |= {"pooling": self._pooling.description, "truncates": True}
        return found

    def health(self) -> dict[str, Any]:
        worker = self._writer or self._embedder
        assert worker is not None
        return worker.health()

    # -- text --------------------------------------------------------------------------------------------------------
    def prompts(self, request: TextRequest) -> list[list[int]]:
        """The request's prompts as tokens; may take long, so not for the event loop.

        Raises:
            RequestError: a prompt that the model cannot take.
        """
        if self._writer is None:
            raise RequestError(
                "This model makes embeddings, no text; send it to /v1/embeddings.", code="unsupported_task"
            )
        if request.messages:
            return [self._chat(request.messages)]
        special = self.task == Task.TEXT_TO_TEXT or self._begins()
        return [self._tokens(prompt, special=special) for prompt in request.prompts]

    def write(self, prompt: Sequence[int], sampling: Sampling, deliver: Callable[[Piece], None]) -> Answer:
        """Begin an answer; `deliver` gets its pieces in the engine's thread."""
        assert self._writer is not None
        return self._writer.begin(prompt, sampling, deliver)

    # -- vectors -----------------------------------------------------------------------------------------------------
    def texts(self, request: EmbeddingRequest) -> list[list[int]]:
        """The request's inputs as tokens, cut to what the model takes; may take long, so not for the event loop."""
        if self._embedder is None:
            raise RequestError(
                "This model writes text and makes no embeddings; send it to /v1/chat/completions or /v1/completions.",
                code="unsupported_task",
            )
        assert self._pooling is not None
        width = self._width()
        if request.dimensions not in (None, width):
            raise RequestError(
                f"This model's embeddings have {width} dimensions and cannot be shortened; leave dimensions out.",
                code="unsupported_parameter",
                param="dimensions",
            )
        return [self._embedded(text, self._pooling) for text in request.inputs]

    def embed(self, texts: Sequence[Sequence[int]]) -> "Future[Vectors]":
        assert self._embedder is not None
        return self._embedder.begin(texts)

    # -- inside ------------------------------------------------------------------------------------------------------
    @property
    def _template(self) -> Any:
        return getattr(self._tokenizer, "chat_template", None)

    def _begins(self) -> bool:
        """Whether the tokenizer puts a beginning before plain text of its own accord."""
        return bool(getattr(self._tokenizer, "add_bos_token", True))

    def _width(self) -> int:
        assert self._pooling is not None
        return int(self._loaded.model.config.hidden_size) * len(self._pooling.kinds)

    def _chat(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        if self._template:
            text = self._rendered(messages)
        elif self.task == Task.TEXT_TO_TEXT:
            text = "\n".join(message["content"] for message in messages)
        else:
            raise RequestError(
                "This model has no chat template; send its text to /v1/completions, or upload chat_template.jinja.",
                code="no_chat_template",
                param="messages",
            )
        return self._tokens(text, special=not self._template)

    def _rendered(self, messages: Sequence[dict[str, Any]]) -> str:
        if sum(len(message["content"]) for message in messages) > self._limit * _LETTERS_A_TOKEN:
            raise self._too_long()
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )  # transformers renders in a sandbox that can change nothing
        except Exception as error:  # templates raise what they like, to refuse roles or their order
            raise RequestError(
                f"The model's chat template refuses these messages: {str(error)[:300]}",
                code="chat_template",
                param="messages",
            ) from None
        return text

    def _tokens(self, prompt: Prompt, *, special: bool) -> list[int]:
        if not isinstance(prompt, str):
            return self._checked(prompt)
        if len(prompt) > self._limit * _LETTERS_A_TOKEN:
            raise self._too_long()
        with self._lock:
            found: list[int] = self._tokenizer(prompt, add_special_tokens=special)["input_ids"]
        if not found:
            raise RequestError("The prompt is empty.", param="messages")
        return found

    def _embedded(self, text: Prompt, pooling: Pooling) -> list[int]:
        if not isinstance(text, str):
            return self._checked(text)[: self._limit]
        text = pooling.prompt + text[: self._limit * 4 * _LETTERS_A_TOKEN]
        with self._lock:
            found: list[int] = self._tokenizer(
                text.lower() if pooling.lower_case else text, truncation=True, max_length=self._limit
            )["input_ids"]
        if not found:
            raise RequestError("An input has no tokens.", param="input")
        return found

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        size = self._loaded.model.get_input_embeddings().weight.shape[0]
        if max(tokens) >= size:
            raise RequestError(f"Token ids run from 0 to {size - 1}; {max(tokens)} is none.", code="invalid_token")
        return list(tokens)

    def _too_long(self) -> RequestError:
        return RequestError(
            f"The prompt is far longer than this model's context of {self._limit} tokens; send a shorter one.",
            code="context_length_exceeded",
            param="messages",
        )

    def _decode(self, tokens: Sequence[int]) -> str:
        with self._lock:
            text: str = self._tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return text

    def _warm_up(self) -> None:
        """Compute once, so that a model that cannot is refused now, and the first request finds everything loaded."""
        token = next((t for t in (self._tokenizer.eos_token_id, self._tokenizer.sep_token_id) if t is not None), 0)
        try:
            if self._embedder is not None:
                self._embedder.begin([[token]]).result()
                return
            done: Future[Piece] = Future()
            self.write([token], Sampling(max_tokens=1, temperature=0), done.set_result)
            if (fault := done.result().error) is not None:
                raise fault
        except RequestError as error:
            raise Unloadable(f"the model was loaded but cannot compute: {error.message}") from error

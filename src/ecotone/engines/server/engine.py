"""A loaded model with what stands between a request and its computing thread: templates, tokens, limits."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ecotone.engines.server.adapters import Adapters
from ecotone.engines.server.batching import MOST_WAITING, Writer
from ecotone.engines.server.causal_vectors import CausalVectors
from ecotone.engines.server.chats import Chats
from ecotone.engines.server.constraints import Grammar, Grammars
from ecotone.engines.server.errors import RequestError, Unloadable
from ecotone.engines.server.folders import Plan, Task
from ecotone.engines.server.generation import Answer, Deliver, Piece
from ecotone.engines.server.loading import Loaded, load
from ecotone.engines.server.pooling import Pooling, read
from ecotone.engines.server.quantising import checked
from ecotone.engines.server.requests import EmbeddingRequest, Sampling, TextRequest
from ecotone.engines.server.sampling import Chooser
from ecotone.engines.server.stepping.choosing import stepper_for
from ecotone.engines.server.text import TextStream
from ecotone.engines.server.tokens import LETTERS_A_TOKEN, Tokens
from ecotone.engines.server.tool_calls import MARKERS


@dataclass(frozen=True)
class Prepared:
    """A request made ready: its prompts as tokens, and what its answers are held to."""

    prompts: list[list[int]]
    grammar: Grammar | None = None


class Engine:
    """One model, ready to answer. Thread-safe.

    Raises:
        Unloadable: the model cannot be served.
    """

    def __init__(self, plan: Plan, options: Mapping[str, Any] | None = None) -> None:
        options = options or {}
        checked(options.get("quantise"), plan.task)
        if meant := [name for name in ("truncate", "batch_tokens") if name in options]:
            raise Unloadable(f"{', '.join(meant)}: an option of encoders, and this model writes; leave it out.")
        self._loaded: Loaded = load(plan, options)
        self._tokenizer = self._loaded.tokenizer
        self.task = plan.task
        self._limit = self._loaded.context_length
        stepper = stepper_for(self._loaded, options)
        #: where adapters come and go while the engine runs; None when they cannot
        self.adapters: Adapters | None = stepper.adapters
        self._pooling: Pooling | None = None
        self._vectors: CausalVectors | None = None
        if self.task == Task.GENERATION:
            self._pooling = read(plan.weights)
            self._vectors = CausalVectors(self._loaded, stepper, self._pooling)
        self._writer = Writer(stepper, most_waiting=int(options.get("max_waiting") or MOST_WAITING))
        self._ends = _ends(self._loaded)
        vocabulary = int(self._loaded.model.get_input_embeddings().weight.shape[0])
        self.tokens = Tokens(self._tokenizer, self._limit, vocabulary)
        self._grammars = Grammars(self._tokenizer, self._ends, vocabulary)
        shown = [token for token in map(self.tokens.id_of, MARKERS) if token is not None]
        self._decode_calls = self.tokens.decoding_with(shown) if shown else self.tokens.decode
        self._chats = Chats(self._tokenizer, self.tokens, self._limit * LETTERS_A_TOKEN)
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
            "chat": self.task == Task.TEXT_TO_TEXT or self._chats.possible,
            "tools": self._chats.takes_tools,
        }
        if self._pooling is not None:
            found |= {"pooling": self._pooling.description, "truncates": False}
        return found | self.settings()

    def settings(self) -> dict[str, Any]:
        """Settings in effect."""
        return {"threads": torch.get_num_threads(), **self._writer.settings()}

    def health(self) -> dict[str, Any]:
        """Counts, and whether the computing thread lives and makes tokens."""
        return self._writer.health()

    @property
    def task_settings(self) -> dict[str, Any]:
        """What the model's configuration says about its tasks: prefixes, by names such as `translation_en_to_fr`."""
        found = getattr(self._loaded.model.config, "task_specific_params", None)
        return found if isinstance(found, dict) else {}

    @property
    def short_ids(self) -> bool:
        """Whether the model's template takes only ids of calls as Mistral's do."""
        return self._chats.short_ids

    # -- text --------------------------------------------------------------------------------------------------------
    def prepare(self, request: TextRequest, *, cut: bool = False) -> "Prepared":
        """The request's prompts as tokens and its schema made ready; may take long, so not for the event loop.

        Raises:
            RequestError: a prompt that the model cannot take.
        """
        schema = request.tools.must or request.schema
        field = "tools" if request.tools.must else "response_format"
        grammar = None if schema is None else self._grammars.compile(schema, field)
        if request.messages:
            return Prepared([self._chat(request)], grammar)
        special = self.task == Task.TEXT_TO_TEXT or self._begins()
        if cut:
            return Prepared([self.tokens.cut(str(prompt), self._limit) for prompt in request.prompts], grammar)
        return Prepared([self.tokens.encode(prompt, special=special) for prompt in request.prompts], grammar)

    def prepare_text(
        self, request: TextRequest, *, truncate: int | None = None, cut: bool = False, regex: str | None = None
    ) -> "Prepared":
        """The same for a text task: `truncate` keeps that many last tokens of each prompt, `cut` what the context
        holds of it; answers may be held to a regular expression.
        """
        found = self.prepare(request, cut=cut)
        grammar = found.grammar if regex is None else self._grammars.compile(regex, "grammar", regex=True)
        prompts = found.prompts if truncate is None else [prompt[-truncate:] for prompt in found.prompts]
        return Prepared(prompts, grammar)

    def write(
        self,
        prepared: "Prepared",
        request: TextRequest,
        receiver: Callable[[int], Deliver],
        loop: asyncio.AbstractEventLoop | None = None,
        adapter: str | None = None,
        party: str = "",
    ) -> list[Answer]:
        """Begin `request.n` answers to each prompt, all of them or none; `receiver(i)` gets the pieces of answer i.

        They are handed out in `loop`, or in the computing thread when there is none. Places are shared out among
        parties.

        Raises:
            RequestError: a prompt does not fit the context, or too many answers wait already.
        """
        self._writer.check_count(len(prepared.prompts) * request.n)
        answers: list[Answer] = []
        grammar = prepared.grammar
        decode = self.tokens.decode if not request.tools.names else self._decode_calls
        for prompt in prepared.prompts:
            limit = self._room(prompt, request.sampling)
            for number in range(request.n):
                chooser = Chooser(
                    request.sampling,
                    self._loaded.model.generation_config,
                    self._ends,
                    constraint=None if grammar is None else grammar.constraint(),
                    prompt=prompt,
                    number=number,
                )
                answers.append(
                    Answer(
                        prompt,
                        limit=limit,
                        chooser=chooser,
                        text=TextStream(decode, request.sampling.stop),
                        deliver=receiver(len(answers)),
                        loop=loop,
                        streams=request.stream,
                        adapter=adapter,
                        party=party,
                    )
                )
        self._writer.begin(answers)
        return answers

    # -- vectors -----------------------------------------------------------------------------------------------------
    def texts(self, request: EmbeddingRequest) -> list[list[int]]:
        """The request's inputs as tokens; may take long, so not for the event loop.

        Raises:
            RequestError: this model makes no vectors, or one is too long.
        """
        if self._pooling is None:
            raise RequestError(
                "This model turns text into text and makes no embeddings; send it to /v1/completions.",
                code="unsupported_task",
            )
        width = self._width()
        if request.dimensions not in (None, width):
            raise RequestError(
                f"This model's embeddings have {width} dimensions and cannot be shortened; leave dimensions out.",
                code="unsupported_parameter",
                param="dimensions",
            )
        found = [self.tokens.encode(text, special=self._begins(), field="input") for text in request.inputs]
        for tokens in found:
            if len(tokens) > self._limit:
                raise RequestError(
                    f"An input has {len(tokens)} tokens, and this model's context holds {self._limit}; split it.",
                    code="context_length_exceeded",
                    param="input",
                )
        return found

    def embed(self, texts: Sequence[Sequence[int]]) -> "Future[list[list[float]]]":
        """Begin to compute the vectors of tokenised texts."""
        assert self._vectors is not None
        return self._writer.between_steps([partial(self._vectors, text) for text in texts])

    # -- inside ------------------------------------------------------------------------------------------------------
    def _begins(self) -> bool:
        """Whether the tokenizer puts a beginning before plain text of its own accord."""
        return bool(getattr(self._tokenizer, "add_bos_token", True))

    def _width(self) -> int:
        assert self._pooling is not None
        return int(self._loaded.model.config.hidden_size) * len(self._pooling.kinds)

    def _chat(self, request: TextRequest) -> list[int]:
        if self._chats.possible or self.task != Task.TEXT_TO_TEXT:
            return self._chats.tokens(request)
        return self.tokens.encode("\n".join(m["content"] for m in request.messages), special=True, field="messages")

    def _room(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """How many tokens an answer may have."""
        encodes = self.task == Task.TEXT_TO_TEXT
        taken = 0 if encodes else len(prompt)
        if len(prompt) > self._limit or taken >= self._limit:
            raise RequestError(
                f"The prompt has {len(prompt)} tokens, and this model's context holds {self._limit}"
                f"{'' if encodes else ' together with the answer'}; shorten the prompt"
                f"{'' if encodes else f' to at most {self._limit - 1} tokens'}, or use a model with a longer context.",
                code="context_length_exceeded",
                param="messages",
            )
        room = self._limit - taken
        return min(sampling.max_tokens or room, room)

    def _warm_up(self) -> None:
        """Compute once, so that a model that cannot is refused now, and the first request finds everything loaded."""
        token = next((t for t in (self._tokenizer.eos_token_id, self._tokenizer.sep_token_id) if t is not None), 0)
        try:
            done: Future[Piece] = Future()
            asked = TextRequest(model="", sampling=Sampling(max_tokens=1, temperature=0))
            self.write(Prepared([[token]]), asked, lambda _: done.set_result)
            if (fault := done.result().error) is not None:
                raise fault
        except RequestError as error:
            raise Unloadable(f"the model was loaded but cannot compute: {error.message}") from error


def _ends(loaded: Loaded) -> frozenset[int]:
    found = [
        getattr(place, "eos_token_id", None)
        for place in (getattr(loaded.model, "generation_config", None), loaded.model.config, loaded.tokenizer)
    ]
    lists = [x if isinstance(x, list) else [x] for x in found if x is not None]
    return frozenset(itertools.chain.from_iterable(lists))

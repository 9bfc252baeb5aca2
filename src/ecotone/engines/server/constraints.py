"""Holding an answer to a JSON schema: llguidance tells before each token which ones may come."""

import importlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.sampling import Constraint

_KEPT = 64
_OPTIONS = {"whitespace_flexible": False}  # else a weak model writes blanks until its tokens are used up


class Grammars:
    """Compiled schemas of one tokenizer; the tokenizer is read when the first schema comes.

    Args:
        tokenizer: transformers' own.
        ends: tokens that end an answer.
        vocabulary: how many tokens the model knows.
    """

    def __init__(self, tokenizer: Any, ends: Iterable[int], vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._ends = sorted(ends)
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._reader: Any = None
        self._known: OrderedDict[str, Any] = OrderedDict()

    def compile(self, schema: str, field: str, *, regex: bool = False) -> "Grammar":
        """A schema (or a regular expression) made ready; may take long, so not for the event loop.

        Raises:
            RequestError: the schema is none, or the library is not there.
        """
        key = f"regex {schema}" if regex else schema
        with self._lock:
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = self._compiled(schema, field, regex=regex)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
        return Grammar(found)

    def _compiled(self, schema: str, field: str, *, regex: bool) -> Any:
        try:
            library = importlib.import_module("llguidance")
            if self._reader is None:
                self._reader = self._read(importlib.import_module("llguidance.hf"))
        except ImportError:
            raise RequestError(
                'Answers are held to a JSON schema by llguidance; install it: pip install "ecotone[engine]".',
                code="unsupported_parameter",
                param=field,
            ) from None
        try:
            if regex:
                grammar = library.LLMatcher.grammar_from_regex(schema)
            else:
                grammar = library.LLMatcher.grammar_from_json_schema(schema, overrides=_OPTIONS)
            matcher = library.LLMatcher(self._reader, grammar, log_level=0)
        except ValueError as error:
            raise _invalid(field, str(error)) from None
        if matcher.is_error():
            raise _invalid(field, matcher.get_error())
        return matcher

    def _read(self, library: Any) -> Any:
        size = max(self._vocabulary, len(self._tokenizer))
        try:
            return library.from_tokenizer(self._tokenizer, n_vocab=size, eos_token=self._ends or None)
        except Exception as error:  # the library says it as it likes
            raise RequestError(
                f"This model's tokenizer cannot be held to a schema: {str(error)[:200]}", code="unsupported_parameter"
            ) from None


class Grammar:
    """A compiled schema; each answer gets a constraint of its own."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def constraint(self) -> Constraint:
        return _Matching(self._matcher.deep_copy())


class _Matching(Constraint):
    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self, logits: Any) -> None:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: logits.shape[0]]
        if len(allowed) < logits.shape[0]:
            allowed = np.pad(allowed, (0, logits.shape[0] - len(allowed)))
        if not allowed.any():
            raise RequestError(
                f"The answer cannot be held to its schema any further: {self._matcher.get_error()[:200]}",
                status=500,
                code="engine_error",
            )
        logits[torch.from_numpy(allowed == 0)] = -torch.inf

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())


def _invalid(field: str, said: str) -> RequestError:
    return RequestError(f"{field}: the schema cannot be used: {said[:300]}.", code="invalid_schema", param=field)

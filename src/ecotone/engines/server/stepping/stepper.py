"""What the writer needs of a model: prompts in, logits out, a place for each answer. Used by one thread alone."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecotone.engines.server.adapters import Adapters


class Row:
    """An answer's place in the batch; what it holds belongs to the stepper that opened it.

    `adapter` is the adapter it is computed with, None for the base alone; a row keeps its adapter until it is closed.
    """

    __slots__ = ("adapter", "prompt", "state")

    def __init__(self, prompt: Sequence[int], adapter: str | None) -> None:
        self.prompt = prompt
        self.adapter = adapter
        self.state: Any = None


class Stepper(abc.ABC):
    """Computes logits of up to `slots` answers that come and go."""

    slots: int
    adapters: "Adapters | None" = None  # where adapters come and go; None when they cannot
    quantised: dict[str, Any] | None = None  # how, and how far its answers are from the full model's

    @abc.abstractmethod
    def open(self, prompt: Sequence[int], adapter: str | None = None) -> Row:
        """Take a place for an answer; nothing is computed yet. The caller opens no more than `slots` at once.

        Raises:
            RequestError: the adapter is not there (any more).
        """

    @abc.abstractmethod
    def fill(self, budget: int) -> list[tuple[Row, Any]]:
        """Read about `budget` more tokens (at least one piece) of the prompts that were opened, oldest first.

        Returns the rows whose prompts have been read to their end, each with its last logits, float32 `[vocabulary]`.
        Empty while a long prompt is not at its end.
        """

    @abc.abstractmethod
    def step(self, rows: Sequence[Row], tokens: Sequence[int]) -> Any:
        """Append one token to each of these rows and return their next logits, float32 `[len(rows), vocabulary]`.

        The rows are any of those filled, each once, in any order and company: the logits do not depend on it but for
        the last bits of float32.
        """

    @abc.abstractmethod
    def close(self, row: Row) -> None:
        """Give the place back; at any time after `open`, once."""

    def states(self, text: Sequence[int]) -> Any:
        """The last hidden states of a text, `[tokens, width]`, for its vector; nothing is kept of it.

        None where this stepper has no way of its own: then the model's module has.
        """
        return None

    @property
    @abc.abstractmethod
    def filling(self) -> int:
        """How many opened rows still have prompt to read."""

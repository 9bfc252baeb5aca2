"""Why the engine refuses: a model it cannot load, or a request it cannot serve. Known to no other process."""

from typing import Any


class Unloadable(Exception):
    """The model cannot be served as it is; trying again will not help. The message is for the person who serves it."""


class RequestError(Exception):
    """A request that is answered with an error in OpenAI's shape."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_value", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "code": self.code, "param": self.param}}

    def task_body(self) -> dict[str, Any]:
        """The same in the shape that Hugging Face's clients read."""
        kind = "overloaded" if self.status == 429 else "generation" if self.status >= 500 else "validation"
        return {"error": self.message, "error_type": kind}


def unknown(model: str) -> RequestError:
    """404 for a model or adapter that is not here."""
    return RequestError(
        f"The model {model[:200]!r} is not served here.", status=404, code="model_not_found", param="model"
    )


def names_of(info: dict[str, Any]) -> frozenset[str]:
    """What the base is called: its id, with its revision or without. Empty when it was not told."""
    model, revision = info.get("model"), info.get("revision")
    return frozenset((model, f"{model}@{revision}")) if model else frozenset()

"""Reasons for which a model cannot be served."""

from ecotone.vocabulary import Conflict, Invalid, NotFound, Unavailable


class ExtraMissing(Unavailable):
    """The libraries of the engine are not installed beside the server."""

    code = "extra_missing"

    def __init__(self, missing: str, extra: str = "engine") -> None:
        super().__init__(
            f'Serving models here needs {missing}, which is not installed; run: pip install "ecotone[{extra}]"',
            retry_after=3600,
        )
        self.missing = missing


class EngineFailed(Unavailable):
    """The engine did not start; the message carries the last lines of its log."""

    code = "engine_failed"


class NoRoom(Unavailable):
    """There is no memory left for the engine; the message has the numbers."""

    code = "no_memory"


class NotServable(Invalid):
    """The model cannot be served as it is."""

    code = "not_servable"


class NotSupported(Invalid):
    """The engine has no adapters that come and go, or not this one's kind."""

    code = "not_supported"


class DeploymentNotFound(NotFound):
    code = "deployment_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"No engine serves {model!r}; `ecotone ps` shows those that run.", param="model")
        self.model = model


class Served(Conflict):
    """The model cannot be taken away: it is deployed."""

    def __init__(self, model: str) -> None:
        super().__init__(f"{model} is served; stop it with `ecotone unserve {model}` first.", param="model")

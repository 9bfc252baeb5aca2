"""A planned model made ready to answer: encoders and models that write have engines and faces of their own."""

from collections.abc import Mapping
from typing import Any

from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import Plan


def opened(plan: Plan, options: Mapping[str, Any]) -> Any:
    """An engine with `info()` and `health()`.

    Raises:
        Unloadable: the model cannot be served.
    """
    if plan.task.encodes:
        from ecotone.engines.server.encoding.engine import Encoders as Engine
    else:
        from ecotone.engines.server.engine import Engine  # type: ignore[assignment]
    try:
        return Engine(plan, options)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of what its files say
        said = " ".join(str(error).split())[:300]
        raise Unloadable(f"its configuration makes no sense: {type(error).__name__}: {said}") from error


def application(engine: Any, plan: Plan, info: dict[str, Any]) -> Any:
    """The ASGI application of an opened engine."""
    if plan.task.encodes:
        from ecotone.engines.server.encoding.application import application as encoders

        return encoders(engine, info)
    from ecotone.engines.server.face import application as writers

    return writers(engine, info)

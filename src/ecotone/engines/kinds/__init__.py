"""The kinds of engines, each a module of its own, imported when it is first used."""

import importlib
import importlib.util
from typing import Final

from ecotone.engines.errors import ExtraMissing, NotServable
from ecotone.engines.kinds.kind import Kind

NAMES: Final = ("builtin", "vllm", "openai", "tei", "ray")


def named(name: str) -> Kind:
    """The kind of that name.

    Raises:
        NotServable: there is none.
    """
    module = f"{__name__}.{name}"
    try:
        if name not in NAMES:
            raise ModuleNotFoundError(name=module)
        found: Kind = importlib.import_module(module).KIND
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise NotServable(
            f"There is no kind of engine {name[:40]!r}; known are {', '.join(NAMES)}.", param="kind"
        ) from None
    return found


def check_installed(kind: Kind, *more: str) -> None:
    """Whether the kind's libraries are installed, without loading them.

    Raises:
        ExtraMissing: naming the first that is not, and what to run.
    """
    for library in (*kind.libraries, *more):
        if importlib.util.find_spec(library) is None:
            raise ExtraMissing(library, kind.extra)

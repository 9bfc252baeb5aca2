"""Which stepper serves a loaded model."""

from collections.abc import Mapping
from typing import Any

from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.stepping import decoder
from ecotone.engines.server.stepping.alone import Alone
from ecotone.engines.server.stepping.batched import Batched
from ecotone.engines.server.stepping.stepper import Stepper


def stepper_for(loaded: Loaded, options: Mapping[str, Any]) -> Stepper:
    """The fastest way that computes this model exactly; `options["slots"]` bounds the answers made at once.

    Raises:
        Unloadable: an option that this model cannot be served with.
    """
    slots = int(options.get("slots") or 0)
    if decoder.fits(loaded.model):
        return Batched(loaded, slots or 32)
    return Alone(loaded, slots or 16)

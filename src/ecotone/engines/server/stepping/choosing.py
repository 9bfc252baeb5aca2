"""Which stepper serves a loaded model."""

from collections.abc import Mapping
from typing import Any

from ecotone.engines.server import agreement
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.quantising import checked, quantise_layers
from ecotone.engines.server.stepping import decoder, encoder_decoder
from ecotone.engines.server.stepping.alone import Alone
from ecotone.engines.server.stepping.batched import Batched
from ecotone.engines.server.stepping.stepper import Stepper
from ecotone.engines.server.stepping.text_to_text import TextToText


def stepper_for(loaded: Loaded, options: Mapping[str, Any]) -> Stepper:
    """The fastest way that computes this model exactly; `options["slots"]` bounds the answers made at once.

    Raises:
        Unloadable: an option that this model cannot be served with.
    """
    slots = int(options.get("slots") or 0)
    if options.get("quantise") is None:
        return _fastest(loaded, slots)
    kind = checked(options["quantise"], loaded.task)
    told = agreement.answers(loaded)
    quantise_layers(loaded.model)
    stepper = _fastest(loaded, slots)
    stepper.quantised = {"kind": kind, **agreement.measured(stepper, told)}
    return stepper


def _fastest(loaded: Loaded, slots: int) -> Stepper:
    if decoder.fits(loaded.model):
        return Batched(loaded, slots or 32)
    if encoder_decoder.fits(loaded.model):
        return TextToText(loaded, slots or 32)
    return Alone(loaded, slots or 16)

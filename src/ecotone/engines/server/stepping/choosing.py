"""Which stepper serves a loaded model."""

from collections.abc import Mapping
from typing import Any

from ecotone.engines.server import agreement
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.quantising import checked, quantise_layers
from ecotone.engines.server.stepping import decoder, encoder_decoder
from ecotone.engines.server.stepping.alone import Alone
from ecotone.engines.server.stepping.batched import Batched
from ecotone.engines.server.stepping.room import slots_for
from ecotone.engines.server.stepping.stepper import Stepper
from ecotone.engines.server.stepping.text_to_text import TextToText

_MOST, _MOST_ALONE = 32, 16


def stepper_for(loaded: Loaded, options: Mapping[str, Any]) -> Stepper:
    """The fastest way that computes this model exactly.

    `options["slots"]` bounds the answers made at once; when it is absent they are as many as the memory holds, of which
    `options["memory"]` bytes are for all engines.

    Raises:
        Unloadable: an option that this model cannot be served with.
    """
    if options.get("quantise") is None:
        return _fastest(loaded, options)
    kind = checked(options["quantise"], loaded.task)
    told = agreement.answers(loaded)
    quantise_layers(loaded.model)
    stepper = _fastest(loaded, options)
    stepper.quantised = {"kind": kind, **agreement.measured(stepper, told)}
    return stepper


def _fastest(loaded: Loaded, options: Mapping[str, Any]) -> Stepper:
    batched, encodes = decoder.fits(loaded.model), encoder_decoder.fits(loaded.model)
    most = _MOST if batched or encodes else _MOST_ALONE
    slots = int(options.get("slots") or 0) or slots_for(loaded, most, options.get("memory"))
    if batched:
        return Batched(loaded, slots)
    return TextToText(loaded, slots) if encodes else Alone(loaded, slots)

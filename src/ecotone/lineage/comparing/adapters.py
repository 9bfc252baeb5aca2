"""Adapters that lie alone: no base weights, so descent is what they declare and what their shapes allow."""

import re
from typing import Final

from ecotone.lineage.comparing.answers import Check, Comparison, Direction, Related, figure
from ecotone.lineage.sources import Source
from ecotone.vocabulary import Relation

_PART: Final = re.compile(
    r"\.(lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)|hada_w\d_[ab]|oft_r|vera_lambda_[bd])\b"
)
_LOW: Final = re.compile(r"^(.*)\.lora_(A|B)(?:\.\w+)?\.weight$")


def is_adapter(source: Source) -> bool:
    """Whether most of the tensors are parts of an adapter."""
    parts = sum(_PART.search(n) is not None for n in source.tensors)
    return parts > 0 and parts * 2 > len(source.tensors)


def against_base(adapter: Source, base: Source, declared: str | None, side: str) -> Comparison:
    """What an adapter tells about a base that it may belong to.

    Args:
        adapter, base: both models.
        declared: the base that the adapter's configuration names.
        side: `first` or `second`, where the adapter was given.
    """
    fits = [ok for n in adapter.tensors if (ok := _fits(adapter, n, base)) is not None]
    share = sum(fits) / len(fits) if fits else 0.0
    named = f"its configuration names {declared!r} as its base" if declared else "no configuration names its base"
    evidence = (
        Check("adapter", None, None, None, f"an adapter holds no base weights, so descent cannot be seen; {named}"),
        Check(
            "shapes",
            figure(share),
            1.0,
            share == 1.0,
            f"{sum(fits)} of {len(fits)} of the adapter's matrices fit a matrix of the other model",
        ),
    )
    relation = Relation.ADAPTER if fits and share == 1.0 else None
    child = Direction("first" if side == "first" else "second", "an adapter is made for a base")
    return Comparison(
        Related.UNSURE if relation else Related.NO, relation, direction=child if relation else None, evidence=evidence
    )


def _fits(adapter: Source, name: str, base: Source) -> bool | None:
    """Whether a low-rank part has the size of the matrix that it changes; None for other tensors."""
    found = _LOW.match(name)
    if found is None:
        return None
    partner = next((n for n in (found[1] + ".weight", "model." + found[1] + ".weight") if n in base.tensors), None)
    shape, own = base.tensors[partner].shape if partner else (), adapter.tensors[name].shape
    if len(shape) != 2 or len(own) != 2:
        return False
    return own[1] == shape[1] if found[2] == "A" else own[0] == shape[0]

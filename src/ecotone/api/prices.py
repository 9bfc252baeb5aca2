"""Prices over REST: what is set, what is in force, where it comes from."""

from typing import Annotated, Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.shapes import schema, text
from ecotone.gateway.pricebook import FIGURE, MODEL, described
from ecotone.vocabulary import NotFound

Figure = Annotated[str, text(FIGURE)]
_WHOLE: dict[str, Any] = {
    "anyOf": [
        {"required": ["input", "output"], "properties": {"free": {"const": False}}},
        {"required": ["free"], "properties": {"free": {"const": True}}, "maxProperties": 1},
    ]
}
"""A price has what goes in and what comes out, or is free and has nothing else (`pricebook`)."""


class NewPrice(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """USD per million tokens as decimal figures in text; `request` is USD per request."""

    input: Figure | None = None
    output: Figure | None = None
    cache_read: Figure | None = None
    cache_write: Figure | None = None
    cache_write_1h: Figure | None = None
    input_audio: Figure | None = None
    output_audio: Figure | None = None
    request: Figure | None = None
    free: bool = False


@endpoint("GET", "/prices", need=Need.USER, summary="Prices that administrators set; with ?backend= all in force there")
def list_prices(call: Call) -> Any:
    name = call.query.get("backend")
    if name is None:
        return call.services.pricebook.list()
    backend = call.services.backends.get(name)
    prices = call.services.builder.current.prices
    return [described(m, price, backend.url) for m, price in sorted(prices.items()) if m.startswith(f"{name}/")]


@endpoint("GET", "/prices/{model:path}", need=Need.USER, summary="A model's price in force, its source and history")
def show_price(call: Call) -> Any:
    model = call.path["model"]
    try:
        url = call.services.backends.get(model.partition("/")[0]).url
    except NotFound:
        url = None
    snapshot = call.services.builder.current
    return call.services.pricebook.told(model, snapshot.price(model), url)


@endpoint(
    "PUT",
    "/prices/{model:path}",
    need=Need.ADMIN,
    body=NewPrice,
    summary="Set the price of a model or backend",
    shapes={"model": schema(MODEL), "body": _WHOLE},
)
def set_price(call: Call) -> Any:
    figures = {k: v for k, v in msgspec.to_builtins(call.body).items() if k != "free" and v is not None}
    made = call.services.pricebook.set(call.path["model"], figures, free=call.body.free, actor=call.actor)
    told = msgspec.to_builtins(made)
    call.services.note("price.set", call.actor, price=told)
    return {**told, **made.figures}


@endpoint("DELETE", "/prices/{model:path}", need=Need.ADMIN, summary="Go back to the provider's listed price")
def remove_price(call: Call) -> Any:
    call.services.pricebook.remove(call.path["model"], actor=call.actor)
    call.services.note("price.removed", call.actor, model=call.path["model"])
    return {"removed": call.path["model"]}

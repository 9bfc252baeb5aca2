"""Prices over REST: what is set, what is in force, where it comes from."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.gateway.pricebook import described
from ecotone.vocabulary import NotFound


class NewPrice(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """USD per million tokens as decimal figures in text; `request` is USD per request."""

    input: str | None = None
    output: str | None = None
    cache_read: str | None = None
    cache_write: str | None = None
    cache_write_1h: str | None = None
    input_audio: str | None = None
    output_audio: str | None = None
    request: str | None = None
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


@endpoint("PUT", "/prices/{model:path}", need=Need.ADMIN, body=NewPrice, summary="Set the price of a model or backend")
def set_price(call: Call) -> Any:
    figures = {k: v for k, v in msgspec.to_builtins(call.body).items() if k != "free" and v is not None}
    made = call.services.pricebook.set(call.path["model"], figures, free=call.body.free, actor=call.actor)
    call.services.note("price.set", call.actor, price=msgspec.to_builtins(made))
    return made


@endpoint("DELETE", "/prices/{model:path}", need=Need.ADMIN, summary="Go back to the provider's listed price")
def remove_price(call: Call) -> Any:
    call.services.pricebook.remove(call.path["model"], actor=call.actor)
    call.services.note("price.removed", call.actor, model=call.path["model"])
    return {"removed": call.path["model"]}

"""The caller's webhooks and how their deliveries went. They are made and changed through the hub's own face."""

from typing import Any

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.vocabulary import Invalid
from ecotone.webhooks import Delivery, Webhook

MOST = 200


@endpoint("GET", "/webhooks", need=Need.USER, summary="Your webhooks, without their secrets")
def list_webhooks(call: Call) -> Any:
    return [_webhook(one) for one in call.services.webhooks.mine(actor=call.actor)]


@endpoint("GET", "/webhooks/{id}", need=Need.USER, summary="One of your webhooks")
def show_webhook(call: Call) -> Any:
    return _webhook(call.services.webhooks.webhook(call.path["id"], actor=call.actor))


@endpoint(
    "GET",
    "/webhooks/{id}/deliveries",
    need=Need.USER,
    summary="Deliveries of a webhook, newest first; `before` is the number of the last one seen",
)
def list_deliveries(call: Call) -> Any:
    found = call.services.webhooks.deliveries(
        call.path["id"], actor=call.actor, before=_number(call, "before"), limit=min(_number(call, "limit") or 50, MOST)
    )
    return [_delivery(one) for one in found]


def _number(call: Call, name: str) -> int | None:
    raw = call.query.get(name)
    if not raw:
        return None
    if not (raw.isascii() and raw.isdigit() and len(raw) < 16):
        raise Invalid(f"{name} is {raw[:40]!r}; a number is expected.", param=name)
    return int(raw)


def _webhook(one: Webhook) -> dict[str, Any]:
    return {
        "id": one.id,
        "url": one.url,
        "watched": [f"{w.type}:{w.name}" for w in one.watched],
        "domains": list(one.domains),
        "signed": one.has_secret,
        "disabled": one.disabled,
        "why_disabled": one.why_disabled,
        "failures": one.failures,
        "left_out": one.left_out,
        "created": one.created.isoformat(),
    }


def _delivery(one: Delivery) -> dict[str, Any]:
    return {
        "number": one.number,
        "id": one.id,
        "event": one.event,
        "subject": one.subject,
        "state": one.state,
        "attempts": one.attempts,
        "created": one.created.isoformat(),
        "due": one.due.isoformat(),
        "tried": one.tried.isoformat() if one.tried else None,
        "status": one.status,
        "problem": one.problem,
    }

"""A user's webhooks as pages: what they watch, how their deliveries went, and switching them on and off."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ecotone.accounts import Actor
from ecotone.vocabulary import EcotoneError, Invalid, Unauthenticated
from ecotone.web.answers import SECURITY_HEADERS, root_of
from ecotone.web.endpoint import Visit
from ecotone.web.failures import failure_page
from ecotone.web.sessions import posted
from ecotone.webhooks import Webhooks

PATH = "/ecotone/webhooks"
PAGE_SIZE = 50


def listed(visit: Visit) -> Response:
    """GET /ecotone/webhooks"""
    _check(visit)
    return visit.page("webhooks.html", webhooks=_webhooks(visit).mine(actor=visit.actor))


def show(visit: Visit) -> Response:
    """GET /ecotone/webhooks/{id}"""
    _check(visit)
    before = visit.query.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None
    webhook = _webhooks(visit).webhook(visit.path["id"], actor=visit.actor)
    found = _webhooks(visit).deliveries(webhook.id, actor=visit.actor, before=number, limit=PAGE_SIZE + 1)
    older = found[PAGE_SIZE - 1].number if len(found) > PAGE_SIZE else None
    return visit.page("webhook.html", webhook=webhook, deliveries=found[:PAGE_SIZE], older=older)


def _check(visit: Visit) -> None:
    if visit.actor.kind != "user":
        raise Unauthenticated("Webhooks belong to users. Log in to see yours.")


def _webhooks(visit: Visit) -> Webhooks:
    found: Webhooks = visit.services.webhooks
    return found


async def act(request: Request) -> Response:
    """POST /ecotone/webhooks/{id}: `act` is enable, disable or delete."""
    try:
        actor, fields = await posted(request)
        return await run_in_threadpool(_act, request, actor, fields.get("act", ""))
    except EcotoneError as error:
        return await run_in_threadpool(failure_page, request, error)


def _act(request: Request, actor: Actor, word: str) -> Response:
    services = request.app.state.services
    webhooks: Webhooks = services.webhooks
    webhook_id = request.path_params["id"][:40]
    if word not in ("enable", "disable", "delete"):
        raise Invalid("That is nothing this form does.", param="act")
    services.intend(f"webhook.{word}", actor, webhook=webhook_id)
    if word == "delete":
        webhooks.delete(webhook_id, actor=actor)
    else:
        webhooks.set_disabled(webhook_id, word == "disable", actor=actor)
    services.note(f"webhook.{word}", actor, webhook=webhook_id)
    target = PATH if word == "delete" else f"{PATH}/{webhook_id}"
    return RedirectResponse(root_of(services) + target, 303, headers=dict(SECURITY_HEADERS))

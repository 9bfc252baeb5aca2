"""Requests for access to gated repositories (protocol section 1.10)."""

from typing import Any

import msgspec
from starlette.routing import BaseRoute

from ecotone.catalog import STATUSES, AccessRequest
from ecotone.hub.endpoint import Call, Handler, api_routes, need_user
from ecotone.hub.infos import moment
from ecotone.hub.pages import Key, page, unpack
from ecotone.vocabulary import Invalid

PAGE = 1000
MOST_AT_ONCE = 10_000


class Handled(msgspec.Struct, rename="camel"):
    status: str
    user: str | None = None
    request_id: str | None = None
    rejection_reason: str = ""


class Granted(msgspec.Struct):
    user: str


def listing(status: Any) -> Handler:
    """GET /api/{kind}/{id}/user-access-request/{pending|accepted|rejected}"""

    def handler(call: Call) -> Any:
        old = "hf_hub/0." in call.request.headers.get("user-agent", "")  # reads one answer, follows no Link
        limit = MOST_AT_ONCE if old else call.number("limit", PAGE, PAGE) or PAGE
        found = call.catalog.access_requests(
            call.model(), status, actor=call.actor, after=unpack(call, Key) or 0, limit=limit + 1
        )
        more = found[limit - 1].number if len(found) > limit else None
        return page(call, [_row(one) for one in found[:limit]], more=more)

    return handler


def ask(call: Call) -> Any:
    """POST /api/{kind}/{id}/user-access-request: the caller asks to be let in."""
    need_user(call.actor)
    model = call.model()
    call.services.intend("access.ask", call.actor, model=model.id)
    made = call.catalog.ask_access(model, call.actor)
    call.services.note("access.ask", call.actor, model=model.id, status=made.status)
    return _row(made)


def handle(call: Call) -> Any:
    """POST /api/{kind}/{id}/user-access-request/handle"""
    need_user(call.actor)
    model = call.model()
    call.catalog.check_gatekeeper(model, call.actor)
    asked = call.fields(Handled)
    if asked.status not in STATUSES:
        raise Invalid(f"status is {asked.status[:40]!r}; expected accepted, rejected or pending.", param="status")
    call.services.intend("access.handle", call.actor, model=model.id, status=asked.status)
    done = call.catalog.handle_access(
        model,
        actor=call.actor,
        status=asked.status,
        user=asked.user,
        request_id=asked.request_id,
        reason=asked.rejection_reason,
    )
    call.services.note("access.handle", call.actor, model=model.id, user=done.user, status=done.status)
    return _row(done)


def grant(call: Call) -> Any:
    """POST /api/{kind}/{id}/user-access-request/grant"""
    need_user(call.actor)
    model = call.model()
    call.catalog.check_gatekeeper(model, call.actor)
    asked = call.fields(Granted)
    call.services.intend("access.grant", call.actor, model=model.id, user=asked.user[:96])
    done = call.catalog.grant_access(model, asked.user, actor=call.actor)
    call.services.note("access.grant", call.actor, model=model.id, user=done.user)
    return _row(done)


def _row(request: AccessRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "requestId": request.id,
        "status": request.status,
        "timestamp": moment(request.asked),
        "user": {"user": request.user, "fullname": request.user, "avatarUrl": ""},
    }
    if request.reason:
        found["rejectionReason"] = request.reason
    return found


def routes() -> list[BaseRoute]:
    return [
        *(
            route
            for status in STATUSES
            for route in api_routes(f"/user-access-request/{status}", {"GET": listing(status)})
        ),
        *api_routes("/user-access-request/handle", {"POST": handle}),
        *api_routes("/user-access-request/grant", {"POST": grant}),
        *api_routes("/user-access-request", {"POST": ask}),
    ]

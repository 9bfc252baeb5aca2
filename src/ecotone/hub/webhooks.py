"""A user's webhooks (protocol section 1.10). A secret goes in and never comes out: it is shown masked."""

from typing import Any

import msgspec
from starlette.routing import BaseRoute

from ecotone.hub.endpoint import Call, need_user, need_writer, plain_route
from ecotone.vocabulary import Invalid
from ecotone.webhooks import MASK, Watched, Webhook, Webhooks


class Asked(msgspec.Struct, rename="camel"):
    """What creates or changes a webhook; absent fields stay as they are."""

    watched: list[Watched] = []
    url: str | None = None
    job_source_id: str | None = None
    domains: list[str] | None = None
    secret: str | None = None


def listing(call: Call) -> Any:
    """GET /api/settings/webhooks"""
    need_user(call.actor)
    return [_shown(one) for one in _webhooks(call).mine(actor=call.actor)]


def create(call: Call) -> Any:
    """POST /api/settings/webhooks"""
    need_writer(call.actor)
    asked = _asked(call)
    if asked.url is None:
        raise Invalid("The url is missing; name the address that is to be called.", param="url")
    call.services.intend("webhook.create", call.actor)
    domains = ["repo", "discussion"] if asked.domains is None else asked.domains
    made = _webhooks(call).create(asked.url, asked.watched, domains, actor=call.actor, secret=asked.secret)
    call.services.note("webhook.create", call.actor, webhook=made.id)
    return {"webhook": _shown(made)}


def show(call: Call) -> Any:
    """GET /api/settings/webhooks/{webhook}"""
    need_user(call.actor)
    return {"webhook": _shown(_webhooks(call).webhook(call.path["webhook"], actor=call.actor))}


def update(call: Call) -> Any:
    """POST /api/settings/webhooks/{webhook}"""
    need_writer(call.actor)
    asked = _asked(call)
    call.services.intend("webhook.update", call.actor, webhook=call.path["webhook"][:40])
    changed = _webhooks(call).update(
        call.path["webhook"],
        actor=call.actor,
        url=asked.url,
        watched=asked.watched,
        domains=asked.domains,
        secret=asked.secret,
    )
    call.services.note("webhook.update", call.actor, webhook=changed.id)
    return {"webhook": _shown(changed)}


def delete(call: Call) -> Any:
    """DELETE /api/settings/webhooks/{webhook}"""
    need_writer(call.actor)
    call.services.intend("webhook.delete", call.actor, webhook=call.path["webhook"][:40])
    _webhooks(call).delete(call.path["webhook"], actor=call.actor)
    call.services.note("webhook.delete", call.actor, webhook=call.path["webhook"][:40])
    return {}


def enable(call: Call) -> Any:
    """POST /api/settings/webhooks/{webhook}/enable"""
    return _set_disabled(call, False)


def disable(call: Call) -> Any:
    """POST /api/settings/webhooks/{webhook}/disable"""
    return _set_disabled(call, True)


def _set_disabled(call: Call, disabled: bool) -> Any:
    need_writer(call.actor)
    act = "webhook.disable" if disabled else "webhook.enable"
    call.services.intend(act, call.actor, webhook=call.path["webhook"][:40])
    changed = _webhooks(call).set_disabled(call.path["webhook"], disabled, actor=call.actor)
    call.services.note(act, call.actor, webhook=changed.id)
    return {"webhook": _shown(changed)}


def _webhooks(call: Call) -> Webhooks:
    found: Webhooks = call.services.webhooks
    return found


def _asked(call: Call) -> Asked:
    asked = call.fields(Asked)
    if asked.job_source_id is not None:
        raise Invalid("This hub runs no jobs for webhooks; give a url instead.", param="jobSourceId")
    if asked.domains is not None:  # `hf webhooks` before 2.0 has its own word for one of them
        asked.domains = ["discussion" if word == "discussions" else word for word in asked.domains]
    return asked


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "watched": [{"type": one.type, "name": one.name} for one in webhook.watched],
        "domains": list(webhook.domains),
        "secret": MASK if webhook.has_secret else None,
        "disabled": webhook.disabled,
    }


def routes() -> list[BaseRoute]:
    one = "/api/settings/webhooks/{webhook}"
    return [
        plain_route("/api/settings/webhooks", listing),
        plain_route("/api/settings/webhooks", create, "POST"),
        plain_route(one + "/enable", enable, "POST"),
        plain_route(one + "/disable", disable, "POST"),
        plain_route(one, show),
        plain_route(one, update, "POST"),
        plain_route(one, delete, "DELETE"),
    ]

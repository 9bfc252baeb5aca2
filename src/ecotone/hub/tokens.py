"""Access tokens for the Xet face, in both forms that clients read (protocol section 1.9). Storage signs them."""

from typing import Any

from starlette.routing import BaseRoute

from ecotone.catalog import Model
from ecotone.hub.endpoint import Call, answer, api_routes, need_sender


def xet_token(call: Call, model: Model, operation: str) -> Any:
    """Body for hf_xet, headers for huggingface_hub."""
    xet = call.services.storage.xet
    tenant = call.catalog.tenant(model, call.actor) if operation == "write" else model.namespace
    scope = xet.scope(tenant)
    token, expires = xet.token(tenant, operation, repo=model.key, holder=call.actor.token, scope=scope)
    cas = f"{call.base}/cas/{scope}"
    headers = {
        "x-xet-cas-url": cas,
        "x-xet-access-token": token,
        "x-xet-token-expiration": str(expires),
        "cache-control": "no-store",
    }
    return answer({"casUrl": cas, "accessToken": token, "exp": expires}, headers=headers)


def read_token(call: Call) -> Any:
    """GET /api/{kind}/{id}/xet-read-token/{rev}"""
    model = call.model()
    call.check_gate(model)
    call.catalog.revision(model, call.path["rev"])
    return xet_token(call, model, "read")


def write_token(call: Call) -> Any:
    """GET /api/{kind}/{id}/xet-write-token/{rev}; any revision when a pull request is to be made."""
    proposing = call.flag("create_pr")
    model = need_sender(call, call.path["rev"], proposing=proposing)
    if not proposing:
        call.catalog.revision(model, call.path["rev"])
    return xet_token(call, model, "write")


def routes() -> list[BaseRoute]:
    return [
        *api_routes("/xet-read-token/{rev}", {"GET": read_token}),
        *api_routes("/xet-write-token/{rev}", {"GET": write_token}),
    ]

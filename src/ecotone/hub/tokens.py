"""Access tokens for the Xet face, in both forms that clients read (protocol section 1.9). Storage signs them."""

from typing import Any

from starlette.routing import BaseRoute

from ecotone.catalog import Model
from ecotone.hub.endpoint import Call, answer, api_routes, check_gate, need_writer


def xet_token(call: Call, model: Model, operation: str) -> Any:
    """Body for hf_xet, headers for huggingface_hub."""
    xet = call.services.storage.xet
    scope = xet.scope(model.namespace)
    token, expires = xet.token(model.namespace, operation, repo=model.key, holder=call.actor.token, scope=scope)
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
    check_gate(model, call.actor)
    call.catalog.revision(model, call.path["rev"])
    return xet_token(call, model, "read")


def write_token(call: Call) -> Any:
    """GET /api/{kind}/{id}/xet-write-token/{rev}; any revision when a pull request is to be made."""
    model = call.model()
    need_writer(call.actor)
    call.catalog.check_writer(model, call.actor)
    if not call.flag("create_pr"):
        call.catalog.revision(model, call.path["rev"])
    return xet_token(call, model, "write")


def routes() -> list[BaseRoute]:
    return [
        *api_routes("/xet-read-token/{rev}", {"GET": read_token}),
        *api_routes("/xet-write-token/{rev}", {"GET": write_token}),
    ]

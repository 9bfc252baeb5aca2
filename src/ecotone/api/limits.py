"""Limits and budgets over REST, by scope: `organisation`, `project:NAME`, `key:ID` and the others of `kept_limits`."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.fields import Budgets, Count
from ecotone.api.shapes import schema
from ecotone.gateway import Allowance, ScopeLimits
from ecotone.gateway.kept_limits import SCOPE


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Requests and tokens in a minute, requests at once, null for any; budgets such as `50USD/month`."""

    requests: Count | None = None
    tokens: Count | None = None
    concurrent: Count | None = None
    budgets: Budgets = []


@endpoint("GET", "/limits", need=Need.USER, summary="Limits and budgets by scope, those that you may see")
def list_limits(call: Call) -> Any:
    return [limits_document(one) for one in call.services.limits.list(actor=call.actor)]


@endpoint("GET", "/limits/{scope:path}", need=Need.USER, summary="Limits and budgets of one scope")
def show_limits(call: Call) -> Any:
    return limits_document(call.services.limits.get(call.path["scope"], actor=call.actor))


@endpoint(
    "PUT",
    "/limits/{scope:path}",
    need=Need.WRITE,
    body=Limits,
    summary="Set a scope's limits and budgets whole",
    shapes={"scope": schema(SCOPE)},
)
def set_limits(call: Call) -> Any:
    new: Limits = call.body
    allowance = Allowance(
        requests=new.requests, tokens=new.tokens, concurrent=new.concurrent, budgets=tuple(new.budgets)
    )
    kept = call.services.limits.set(call.path["scope"], allowance, actor=call.actor)
    call.services.note("limits.set", call.actor, scope=kept.scope, limits=msgspec.to_builtins(kept.allowance))
    return limits_document(kept)


@endpoint("DELETE", "/limits/{scope:path}", need=Need.ADMIN, summary="Take a scope's limits and budgets away")
def remove_limits(call: Call) -> Any:
    call.services.limits.remove(call.path["scope"], actor=call.actor)
    call.services.note("limits.removed", call.actor, scope=call.path["scope"])
    return {"removed": call.path["scope"]}


def limits_document(kept: ScopeLimits) -> dict[str, Any]:
    """Limits as they are told, budgets in their shortest writing."""
    told = {"updated": kept.updated.isoformat(), "updated_by": kept.updated_by}
    return {"scope": kept.scope, **msgspec.to_builtins(kept.allowance), **told}

"""Families over REST: the tree, what if a licence changes, and withdrawal drills."""

import datetime
from typing import Any

import msgspec

from ecotone.accounts.projects import check_territory, use_variables
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.licences import Use, check_variables
from ecotone.policy.trees import Wanted, chosen, family_tree, with_checks
from ecotone.vocabulary import EdgeStatus, Invalid, Mode, Purpose, Relation, Verdict

_PAGE = 500
_MOST_PAGE = 2000


class AskedUse(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A use, as `licence check` takes it."""

    mode: Mode
    purpose: Purpose
    users: int | None = None
    revenue: float | None = None
    territory: list[str] = []
    variables: dict[str, Any] = {}


class WhatIf(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`licence` is an entry of the knowledge base, `unknown` or `withdrawn`; `day` is when everything is judged."""

    model: str
    licence: str
    revision: str | None = None
    day: datetime.date | None = None
    use: AskedUse | None = None


class NewDrill(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    revision: str | None = None
    reason: str = ""


@endpoint("GET", "/lineage/family", need=Need.READ, summary="The family tree of a model, with verdicts and evidence")
def show_family(call: Call) -> Any:
    """Query: model; mode and purpose of the use (serve_api, commercial); relation, status, verdict and q choose
    descendants; limit and offset page through them. Ancestors are always all there."""
    query = call.query
    known = {"model", "mode", "purpose", "relation", "status", "verdict", "q", "limit", "offset"}
    for name in query.keys() - known:
        raise Invalid(f"There is no parameter {name!r}; {', '.join(sorted(known))} are.", param=name)
    if not query.get("model"):
        raise Invalid("Say which model: ?model=namespace/name.", param="model")
    mode = _word(Mode, query.get("mode") or "serve_api", "mode")
    use = Use(mode=mode, purpose=_word(Purpose, query.get("purpose") or "commercial", "purpose"))
    clan = call.services.catalog.clan(query["model"], viewer=call.actor)
    tree = family_tree(call.services.policy.stance(), clan, use)
    wanted = Wanted(
        relation=_word(Relation, query["relation"], "relation") if query.get("relation") else "",
        status=_word(EdgeStatus, query["status"], "status") if query.get("status") else "",
        verdict=_word(Verdict, query["verdict"], "verdict") if query.get("verdict") else "",
        letters=query.get("q", "")[:100],
    )
    offset, limit = _number(query, "offset", 0, 10**6), _number(query, "limit", _PAGE, _MOST_PAGE)
    fitting = chosen(tree, wanted)
    shown = [m for m in tree.members if m.depth <= 0] + fitting[offset : offset + limit]
    ids = {m.id for m in shown}
    places = [place for place, edge in enumerate(tree.edges) if edge.child in ids]
    tree = with_checks(tree, clan, places, call.services.catalog.checks_between)
    return {
        "subject": tree.subject,
        "members": shown,
        "edges": [tree.edges[place] for place in places],
        "counts": tree.counts,
        "descendants": len(fitting),
        "next_offset": offset + limit if offset + limit < len(fitting) else None,
        "cut": tree.cut,
        "notice": "not legal advice",
        "use": {"mode": use.mode, "purpose": use.purpose},
    }


@endpoint(
    "POST", "/lineage/impact", need=Need.USER, body=WhatIf, summary="What changes if a model's licence or terms change?"
)
def ask_impact(call: Call) -> Any:
    ask: WhatIf = call.body
    use = None
    if ask.use is not None:
        check_territory(ask.use.territory)
        check_variables(call.services.knowledge, ask.use.variables)
        told = use_variables(ask.use.users, ask.use.revenue, ask.use.territory, ask.use.variables)
        use = Use(mode=ask.use.mode, purpose=ask.use.purpose, variables=told)
    return call.services.impact.asked(
        ask.model, ask.licence, revision=ask.revision, day=ask.day, use=use, viewer=call.actor
    )


@endpoint("POST", "/lineage/withdrawals", need=Need.ADMIN, body=NewDrill, status=201, summary="Make a withdrawal drill")
def make_drill(call: Call) -> Any:
    """Everything that there is of a model whose licence ended, signed and kept; changes nothing else."""
    ask: NewDrill = call.body
    return call.services.drill(ask.model, call.actor, revision=ask.revision, reason=ask.reason)


@endpoint("GET", "/lineage/withdrawals", need=Need.ADMIN, summary="Withdrawal drills that were made")
def list_drills(call: Call) -> Any:
    return call.services.withdrawals.kept()


@endpoint("GET", "/lineage/withdrawals/{id}", need=Need.ADMIN, summary="One withdrawal drill, with its proof")
def show_drill(call: Call) -> Any:
    return call.services.withdrawals.get(call.path["id"])


@endpoint(
    "POST", "/lineage/withdrawals/{id}/check", need=Need.ADMIN, summary="What of a drill is gone, and what is not"
)
def check_drill(call: Call) -> Any:
    return call.services.check_drill(call.path["id"], call.actor)


def _word(kind: Any, text: str, name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise Invalid(f"{name} is {text[:40]!r}; it is one of {', '.join(map(str, kind))}.", param=name) from None


def _number(query: dict[str, str], name: str, usual: int, most: int) -> int:
    text = query.get(name, "")
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise Invalid(f"{name} is {text[:20]!r}; a number from 0 to {most} is expected.", param=name)
    return int(text)

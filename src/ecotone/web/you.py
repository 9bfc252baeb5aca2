"""The visitor's own page: who they are here, their tokens without secrets, and the way to all that is theirs."""

from starlette.responses import Response

from ecotone.vocabulary import Role, Unauthenticated
from ecotone.web.endpoint import Visit, address

MOST_REPOSITORIES = 100
MOST_TOKENS = 50
_MAY = {
    Role.READ: "Read everything that is not gated, discuss, and propose changes.",
    Role.WRITE: "Read, discuss, and write to repositories of yours and of common namespaces.",
    Role.ADMIN: "Everything: this is an administrator's token.",
}


def show(visit: Visit) -> Response:
    """GET /ecotone/you"""
    actor = visit.actor
    if actor.kind != "user" or actor.role is None:
        raise Unauthenticated("This page is about you: log in to see it.")
    found = visit.catalog.repositories_of(actor.name, viewer=actor, limit=MOST_REPOSITORIES + 1)
    tokens = [token for token in visit.services.accounts.tokens() if token.user == actor.name]
    return visit.page(
        "you.html",
        may=_MAY[actor.role],
        repositories=[(stored, visit.root + address(stored.model)) for stored in found[:MOST_REPOSITORIES]],
        more=len(found) > MOST_REPOSITORIES,
        tokens=list(reversed(tokens))[:MOST_TOKENS],
        base=visit.services.settings.base_url,
    )

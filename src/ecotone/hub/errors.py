"""The one place where reasons become statuses and headers of the hub protocol (section 1.1).

Over plain http a client knows an absent repository by `X-Error-Code` alone, so every answer carries one where the
protocol has one. Whether an absent repository is 401 or 404 depends on the presence of a token, never on the name.
"""

from typing import Any

import msgspec
from starlette.responses import Response

from ecotone.accounts import Actor
from ecotone.catalog import (
    CollectionExists,
    EntryNotFound,
    GatedRepo,
    ModelNotFound,
    RefExists,
    RepoExists,
    RevisionNotFound,
    StaleParent,
)
from ecotone.catalog.discussion import MergeConflict
from ecotone.vocabulary import (
    Conflict,
    EcotoneError,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MOST_CONFLICTS = 1000


class NotSupported(NotFound):
    """A part of the protocol that this hub does not speak."""

    code = "not_supported"

    def __init__(self) -> None:
        super().__init__("not supported by this hub")


class Moved(EcotoneError):
    """The repository has another name; `location` is the same request there, from the root of this host."""

    code = "moved"

    def __init__(self, location: str) -> None:
        super().__init__(f"The repository is found under another name by now: {location}")
        self.location = location


STATUS: tuple[tuple[type[EcotoneError], int], ...] = (
    (StaleParent, 412),
    (Invalid, 400),
    (Unauthenticated, 401),
    (Refused, 403),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (Unavailable, 503),
)
ERROR_CODES: tuple[tuple[type[EcotoneError], str], ...] = (
    (ModelNotFound, "RepoNotFound"),
    (RevisionNotFound, "RevisionNotFound"),
    (EntryNotFound, "EntryNotFound"),
    (GatedRepo, "GatedRepo"),
)


def error_response(error: EcotoneError, actor: Actor, *, url: str | None = None) -> Response:
    """The answer to a request that failed for a known reason.

    Args:
        url: of the repository, for a conflict over its name: clients read it from the 409.
    """
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
    headers = {}
    word = next((word for kind, word in ERROR_CODES if isinstance(error, kind)), None)
    if isinstance(error, (ModelNotFound, GatedRepo)) and actor.kind == "anonymous":
        status = 401
    if word:
        headers["x-error-code"] = word
    headers["x-error-message"] = header_text(error.message)
    if isinstance(error, EntryNotFound) and error.commit:
        headers["x-repo-commit"] = error.commit
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="ecotone"'
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(error.retry_after)
    body: dict[str, Any] = {"error": error.message}
    if isinstance(error, (RepoExists, RefExists)) and url is not None:
        body["url"] = url
    if isinstance(error, MergeConflict):
        body["filesWithConflicts"] = list(error.paths[:MOST_CONFLICTS])
    if isinstance(error, CollectionExists):
        body["slug"] = error.slug
    if isinstance(error, Refused):
        body["ecotone"] = {k: error.decision.get(k) for k in ("verdict", "reasons", "would_allow", "knowledge_base")}
    return Response(msgspec.json.encode(body), status, headers=headers, media_type="application/json")


def header_text(text: str) -> str:
    """One line of Latin-1, as a header may hold it."""
    return " ".join(text.split())[:2000].encode("latin-1", "replace").decode("latin-1")

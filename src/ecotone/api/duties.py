"""What a model owes by its licences: the document, the files to ship, and the check of a bundle or a page's text.

The server fetches no address for anybody: whoever checks a live page sends its text.
"""

import datetime
from typing import Any

import msgspec

from ecotone.accounts.projects import check_territory, use_variables
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.licences import Use, check_variables
from ecotone.licences.detection.reading import Unreadable
from ecotone.licences.duties import Bundle, Duties, Loose, shown_text
from ecotone.vocabulary import Invalid, Mode, Purpose

MOST_BYTES = 8 * 1024 * 1024


class DutiesQuestion(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A use, and what to check: `bundle` (texts by path, null for a file that is there and no text) or `page`.

    `files`: answer with the files to write as well; `bundle` is then what lies already where they go.
    """

    revision: str = "main"
    mode: Mode = Mode.PUBLISH_WEIGHTS
    purpose: Purpose = Purpose.COMMERCIAL
    users: int | None = None
    revenue: float | None = None
    territory: list[str] = []
    date: datetime.date | None = None
    variables: dict[str, Any] = {}
    bundle: dict[str, str | None] | None = None
    page: str | None = None
    files: bool = False


@endpoint(
    "GET",
    "/models/{namespace}/{name}/duties",
    need=Need.READ,
    summary="What publishing a model owes by its licences, and where its own files stand",
)
def show_duties(call: Call) -> Any:
    """`revision`, `mode` and `purpose` may be given in the query."""
    known = {k: v for k, v in call.query.items() if k in ("revision", "mode", "purpose")}
    try:
        ask = msgspec.convert(known, DutiesQuestion)
    except msgspec.ValidationError as error:
        raise Invalid(f"The query does not fit: {error}.") from None
    found, own = _duties(call, ask)
    return found.in_bundle(own)


@endpoint(
    "POST",
    "/models/{namespace}/{name}/duties",
    need=Need.USER,
    body=DutiesQuestion,
    most=MOST_BYTES,
    summary="What a model owes under a use; checks a bundle or a page, and answers with the files to ship",
)
def check_duties(call: Call) -> Any:
    ask: DutiesQuestion = call.body
    found, own = _duties(call, ask)
    present = _sent(ask.bundle) if ask.bundle is not None else None
    if ask.files:
        return _with_files(found, present or Loose({}))
    if ask.page is not None:
        return found.on_page(shown_text(ask.page), "the text sent")
    return found.in_bundle(present if present is not None else own)


def _duties(call: Call, ask: DutiesQuestion) -> tuple[Duties, Bundle]:
    check_territory(ask.territory)
    check_variables(call.services.knowledge, ask.variables)
    use = Use(
        mode=ask.mode,
        purpose=ask.purpose,
        modified=ask.variables.get("modified") is True,
        date=ask.date,
        variables=use_variables(ask.users, ask.revenue, ask.territory, ask.variables),
    )
    model_id = f"{call.path['namespace']}/{call.path['name']}"
    found: tuple[Duties, Bundle] = call.services.duties.of(model_id, ask.revision, use, viewer=call.actor)
    return found


def _sent(bundle: dict[str, str | None]) -> Loose:
    texts = {path: text for path, text in bundle.items() if text is not None}
    return Loose(texts, tuple(path for path, text in bundle.items() if text is None))


def _with_files(found: Duties, present: Loose) -> dict[str, Any]:
    try:
        files = found.files(present)
    except Unreadable as reason:
        raise Invalid(f"A file that would be continued cannot be read: {reason}.", param="bundle") from None
    return {**found.in_bundle(found.after(present, files)), "files": files}

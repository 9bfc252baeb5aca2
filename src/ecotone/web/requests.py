"""The list of requests in the ledger, newest first, with filters; each line leads to the page that explains it."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.responses import Response

from ecotone.ledger.recent import MOST_BYTES, RequestLine, newest
from ecotone.web.endpoint import Visit
from ecotone.web.rendering import size
from ecotone.web.traffic import seconds, usd, visible_projects

PAGE_SIZE = 50
FILTERS = {"project": "Project", "route": "Route", "backend": "Backend", "model": "Model"}
ENDS = {"well": "with an answer", "failed": "with an error", "refused": "refused", "open": "not yet"}
_PICO = 10**12


def show(visit: Visit) -> Response:
    """GET /ecotone/requests?project=&route=&backend=&model=&ended=&before="""
    projects = visible_projects(visit)
    chosen = {name: visit.query.get(name, "").strip()[:200] for name in FILTERS}
    chosen["ended"] = visit.query.get("ended", "") if visit.query.get("ended") in ENDS else ""
    before = _moment(visit.query.get("before", ""))
    lines = newest(visit.services.ledger, _wanted(chosen, projects), most=PAGE_SIZE + 1, before=before)
    told = {name: value for name, value in chosen.items() if value}
    older = urlencode({**told, "before": lines[PAGE_SIZE - 1].at.isoformat()}) if len(lines) > PAGE_SIZE else ""
    return visit.page(
        "requests.html",
        lines=lines[:PAGE_SIZE],
        chosen=chosen,
        filtered=bool(told or before),
        before=before.isoformat() if before is not None else "",
        filters=FILTERS,
        ends=ENDS,
        names=visit.services.watch.history.names("month", projects=projects),
        older=older,
        depth=size(MOST_BYTES),
        clock=clock,
        money=money,
        seconds=seconds,
    )


def _wanted(chosen: dict[str, str], projects: frozenset[str] | None) -> Callable[[RequestLine], bool]:
    wanted = [(name, chosen[name]) for name in FILTERS if chosen[name]]
    ended = chosen["ended"]

    def check(line: RequestLine) -> bool:
        if projects is not None and line.project not in projects:
            return False
        if ended and ended != _end(line):
            return False
        return all(value in (getattr(line, name), line.asked if name == "model" else None) for name, value in wanted)

    return check


def _end(line: RequestLine) -> str:
    if line.kind == "refused":
        return "refused"
    return "failed" if line.failed else "open" if line.status == "open" else "well"


def clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%d %b %H:%M:%S")


def money(line: RequestLine) -> str:
    """The cost of a request in USD; nothing for one that did not come to it."""
    if line.kind == "refused" or line.status == "open":
        return ""
    if line.cost is not None:
        return usd(line.cost)
    return usd(round(line.cost_usd * _PICO)) if line.cost_usd is not None else "not known"


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text[:40])
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

"""The page of one key for administrators: what it may, and changing, rotating, adopting and revoking it."""

from datetime import UTC, timedelta

import msgspec
from starlette.responses import Response

from ecotone.accounts import KeyInfo, KeyTerms
from ecotone.vocabulary import Conflict, Invalid
from ecotone.web.endpoint import Visit
from ecotone.web.managing import Fields, allowance_of, end_of, told_of, words_of
from ecotone.web.projects import secret_page

PATH = "/ecotone/keys"
OVERLAPS = (("0", "at once"), ("3600", "in an hour"), ("86400", "in a day"), ("604800", "in a week"))


def show(visit: Visit) -> Response:
    """GET /ecotone/keys/{id}"""
    info = visit.services.accounts.key(visit.path["id"], actor=visit.actor)
    return _page(visit, info, _told(visit, info), saved="saved" in visit.query)


def act(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/keys/{id}: `act` is save, rotate, adopt or revoke."""
    info = visit.services.accounts.key(visit.path["id"], actor=visit.actor)
    word = fields.get("act", "")
    acts = {"save": _save, "rotate": _rotate, "adopt": _adopt, "revoke": _revoke}
    if word not in acts:
        raise Invalid("That is nothing this form does.", param="act")
    visit.services.intend(f"key.{word}", visit.actor, key_id=info.id)
    try:
        return acts[word](visit, info, fields)
    except (Invalid, Conflict) as error:
        return _page(visit, info, _told(visit, info) | fields, problem=error.message)


def _save(visit: Visit, info: KeyInfo, fields: Fields) -> Response:
    services = visit.services
    terms = KeyTerms(
        note=fields.get("note", "").strip(),
        expires=end_of(fields),
        models=words_of(fields.get("models", "")),
        networks=words_of(fields.get("networks", "")),
        tags=words_of(fields.get("tags", "")),
    )
    allowance = allowance_of(fields).checked()
    services.accounts.set_key(info.id, terms, actor=visit.actor)
    services.limits.set(f"key:{info.id}", allowance, actor=visit.actor)
    told = {"terms": msgspec.to_builtins(terms), "limits": msgspec.to_builtins(allowance)}
    services.note("key.set", visit.actor, project=info.project, key_id=info.id, **told)
    return visit.redirect(f"{PATH}/{info.id}?saved=1")


def _rotate(visit: Visit, info: KeyInfo, fields: Fields) -> Response:
    seconds = fields.get("overlap", "0")
    if seconds not in dict(OVERLAPS):
        raise Invalid("Choose when the old secret ends.", param="overlap")
    services = visit.services
    rotated, secret = services.accounts.rotate_key(info.id, overlap=timedelta(seconds=int(seconds)), actor=visit.actor)
    services.note("key.rotated", visit.actor, project=info.project, key_id=info.id, overlap_seconds=int(seconds))
    return secret_page(visit, rotated, secret)


def _adopt(visit: Visit, info: KeyInfo, _fields: Fields) -> Response:
    visit.services.accounts.adopt_key(info.id, actor=visit.actor)
    visit.services.note("key.adopted", visit.actor, project=info.project, key_id=info.id)
    return visit.redirect(f"{PATH}/{info.id}?saved=1")


def _revoke(visit: Visit, info: KeyInfo, _fields: Fields) -> Response:
    visit.services.accounts.revoke_key(info.id, actor=visit.actor)
    visit.services.note("key.revoked", visit.actor, project=info.project, key_id=info.id)
    return visit.redirect(f"{PATH}/{info.id}")


def _page(visit: Visit, info: KeyInfo, told: dict[str, str], *, saved: bool = False, problem: str = "") -> Response:
    answer = visit.page("key.html", key=info, told=told, overlaps=OVERLAPS, saved=saved, problem=problem)
    answer.status_code = 400 if problem else 200
    return answer


def _told(visit: Visit, info: KeyInfo) -> dict[str, str]:
    """The key as the form's fields hold it."""
    terms = info.terms
    lists = {name: ", ".join(getattr(terms, name)) for name in ("models", "networks", "tags")}
    own = told_of(visit.services.limits.allowance(f"key:{info.id}"))
    ends = terms.expires.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if terms.expires else ""
    return {"note": terms.note, "expires": ends, **lists, **own}

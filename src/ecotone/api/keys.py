"""Keys of projects over REST. A secret is told once, in the answer that made it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from ecotone.accounts import KeyInfo, KeyTerms
from ecotone.accounts.keys import HASH, MOST_OVERLAP, NOTE
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.fields import Budgets, Count, Models, Tags
from ecotone.api.shapes import moment, text, within
from ecotone.gateway import Allowance


class Terms(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What can be set of a key. Empty lists bound nothing; `expires` with its zone, null for never."""

    note: Annotated[str, text(NOTE)] = ""
    expires: Annotated[datetime, moment()] | None = None
    models: Models = []
    networks: list[str] = []
    tags: Tags = []

    def terms(self) -> KeyTerms:
        return KeyTerms(
            note=self.note,
            expires=self.expires,
            models=tuple(self.models),
            networks=tuple(self.networks),
            tags=tuple(self.tags),
        )


class NewKey(Terms, kw_only=True):
    """A key of a project, with limits and budgets of its own. `sha256` takes over a secret that exists elsewhere."""

    project: str
    sha256: Annotated[str, text(HASH)] | None = None
    requests: Count | None = None
    tokens: Count | None = None
    concurrent: Count | None = None
    budgets: Budgets = []


class Rotation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    overlap_seconds: Annotated[int, within(0, MOST_OVERLAP.total_seconds())] = 0


@endpoint("POST", "/keys", need=Need.WRITE, body=NewKey, status=201, summary="Make a key; its secret is shown once")
def create_key(call: Call) -> Any:
    new: NewKey = call.body
    allowance = Allowance(
        requests=new.requests, tokens=new.tokens, concurrent=new.concurrent, budgets=tuple(new.budgets)
    )
    info, secret = call.services.accounts.create_key(
        new.project,
        actor=call.actor,
        terms=new.terms(),
        sha256=new.sha256,
        also=call.services.limits.with_key(new.project, allowance, actor=call.actor),
    )
    act = "key.created" if new.sha256 is None else "key.imported"
    limits = {"limits": msgspec.to_builtins(allowance)} if not allowance.is_empty else {}
    call.services.note(act, call.actor, project=info.project, key_id=info.id, terms=_terms(info), **limits)
    return key_document(info) | ({"key": secret} if secret else {})


@endpoint("GET", "/keys", need=Need.USER, summary="Keys of all projects or of your own, without their secrets")
def list_keys(call: Call) -> Any:
    return [key_document(k) for k in call.services.accounts.keys(call.query.get("project"), actor=call.actor)]


@endpoint("GET", "/keys/{id}", need=Need.USER, summary="One key, without its secret")
def show_key(call: Call) -> Any:
    return key_document(call.services.accounts.key(call.path["id"], actor=call.actor))


@endpoint(
    "PUT", "/keys/{id}", need=Need.WRITE, body=Terms, summary="Set a key's terms whole; an owner only narrows them"
)
def set_key(call: Call) -> Any:
    info = call.services.accounts.set_key(call.path["id"], call.body.terms(), actor=call.actor)
    call.services.note("key.set", call.actor, project=info.project, key_id=info.id, terms=_terms(info))
    return key_document(info)


@endpoint("POST", "/keys/{id}/rotate", need=Need.WRITE, body=Rotation, summary="A new secret, shown once; old ones end")
def rotate_key(call: Call) -> Any:
    overlap = timedelta(seconds=min(max(call.body.overlap_seconds, -1), 10**9))
    info, secret = call.services.accounts.rotate_key(call.path["id"], overlap=overlap, actor=call.actor)
    told = {"overlap_seconds": call.body.overlap_seconds}
    call.services.note("key.rotated", call.actor, project=info.project, key_id=info.id, **told)
    return key_document(info) | {"key": secret}


@endpoint("POST", "/keys/{id}/adopt", need=Need.ADMIN, summary="Answer for a key in the place of who did")
def adopt_key(call: Call) -> Any:
    info = call.services.accounts.adopt_key(call.path["id"], actor=call.actor)
    call.services.note("key.adopted", call.actor, project=info.project, key_id=info.id)
    return key_document(info)


@endpoint("DELETE", "/keys/{id}", need=Need.WRITE, summary="Revoke a key, in force within two seconds")
def revoke_key(call: Call) -> Any:
    info = call.services.accounts.revoke_key(call.path["id"], actor=call.actor)
    call.services.note("key.revoked", call.actor, project=info.project, key_id=info.id)
    return key_document(info)


def key_document(info: KeyInfo) -> dict[str, Any]:
    """A key as it is told: never its secret, nor its hash."""
    return {
        "id": info.id,
        "project": info.project,
        **_terms(info),
        "state": info.state,
        "created": info.created.isoformat(),
        "created_by": info.created_by,
        "vouched_by": info.vouched_by,
        "revoked": info.revoked.isoformat() if info.revoked else None,
        "old_until": info.old_until.isoformat() if info.old_until else None,
    }


def _terms(info: KeyInfo) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(info.terms)
    expires = info.terms.expires
    return told | {"expires": expires.astimezone(UTC).isoformat().replace("+00:00", "Z") if expires else None}

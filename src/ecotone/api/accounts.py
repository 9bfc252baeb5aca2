"""Projects, keys and tokens over REST."""

from typing import Any

import msgspec

from ecotone.accounts import KeyInfo, Project, TokenInfo
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.licences import check_variables
from ecotone.vocabulary import Mode, PersonalData, Purpose, Role


class NewProject(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    mode: Mode
    purpose: Purpose
    personal_data: PersonalData = PersonalData.LOCAL_ONLY
    users: int | None = None
    revenue: float | None = None
    territory: list[str] = []
    variables: dict[str, Any] = {}


class NewKey(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    project: str


class NewToken(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    user: str
    role: Role = Role.READ
    note: str = ""


@endpoint("POST", "/projects", need=Need.ADMIN, body=NewProject, status=201, summary="Declare a project and its use")
def create_project(call: Call) -> Any:
    new: NewProject = call.body
    check_variables(call.services.knowledge, new.variables)
    project = call.services.accounts.create_project(
        new.name,
        mode=new.mode,
        purpose=new.purpose,
        actor=call.actor,
        personal_data=new.personal_data,
        users=new.users,
        revenue=new.revenue,
        territory=tuple(new.territory),
        variables=new.variables,
    )
    call.services.note("project.created", call.actor, project=project.name, use=_project(project))
    return _project(project)


@endpoint("GET", "/projects", need=Need.USER, summary="All projects")
def list_projects(call: Call) -> Any:
    return [_project(p) for p in call.services.accounts.projects()]


@endpoint("GET", "/projects/{name}", need=Need.USER, summary="One project")
def show_project(call: Call) -> Any:
    return _project(call.services.accounts.project(call.path["name"]))


@endpoint("DELETE", "/projects/{name}", need=Need.ADMIN, summary="Remove a project and its keys")
def remove_project(call: Call) -> Any:
    call.services.accounts.remove_project(call.path["name"])
    call.services.note("project.removed", call.actor, project=call.path["name"])
    return {"removed": call.path["name"]}


@endpoint("POST", "/keys", need=Need.ADMIN, body=NewKey, status=201, summary="Make a key; its secret is shown once")
def create_key(call: Call) -> Any:
    info, secret = call.services.accounts.create_key(call.body.project, actor=call.actor)
    call.services.note("key.created", call.actor, project=info.project, key_id=info.id)
    return {**_key(info), "key": secret}


@endpoint("GET", "/keys", need=Need.USER, summary="Keys, without their secrets")
def list_keys(call: Call) -> Any:
    return [_key(k) for k in call.services.accounts.keys(call.query.get("project"))]


@endpoint("GET", "/keys/{id}", need=Need.USER, summary="One key, without its secret")
def show_key(call: Call) -> Any:
    return _key(call.services.accounts.key(call.path["id"]))


@endpoint("DELETE", "/keys/{id}", need=Need.ADMIN, summary="Revoke a key, in force within two seconds")
def revoke_key(call: Call) -> Any:
    info = call.services.accounts.revoke_key(call.path["id"])
    call.services.note("key.revoked", call.actor, project=info.project, key_id=info.id)
    return _key(info)


@endpoint("POST", "/tokens", need=Need.ADMIN, body=NewToken, status=201, summary="Make a user's token; shown once")
def create_token(call: Call) -> Any:
    info, secret = call.services.accounts.create_token(call.body.user, call.body.role, call.body.note)
    call.services.note("token.created", call.actor, user=info.user, role=info.role.value, token_id=info.id)
    return {**_token(info), "token": secret}


@endpoint("GET", "/tokens", need=Need.USER, summary="Your tokens, for an administrator all; without their secrets")
def list_tokens(call: Call) -> Any:
    return [_token(t) for t in call.services.accounts.tokens(None if call.actor.is_admin else call.actor.name)]


@endpoint("GET", "/tokens/{id}", need=Need.USER, summary="One of your tokens, without its secret")
def show_token(call: Call) -> Any:
    return _token(call.services.accounts.token(call.path["id"], call.actor))


@endpoint("DELETE", "/tokens/{id}", need=Need.USER, summary="Revoke one of your tokens, an administrator anybody's")
def revoke_token(call: Call) -> Any:
    call.services.accounts.revoke_token(call.path["id"], call.actor)
    call.services.note("token.revoked", call.actor, token_id=call.path["id"])
    return {"revoked": call.path["id"]}


@endpoint("GET", "/me", need=Need.USER, summary="Who the token belongs to")
def whoami(call: Call) -> Any:
    return {"user": call.actor.name, "role": call.actor.role}


def _project(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "mode": project.mode,
        "purpose": project.purpose,
        "personal_data": project.personal_data,
        "users": project.users,
        "revenue": project.revenue,
        "territory": list(project.territory),
        "variables": project.variables,
        "may_call_private": project.may_call_private,
        "created": project.created.isoformat(),
        "created_by": project.created_by,
    }


def _key(info: KeyInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "project": info.project,
        "created": info.created.isoformat(),
        "created_by": info.created_by,
        "revoked": info.revoked.isoformat() if info.revoked else None,
    }


def _token(info: TokenInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "user": info.user,
        "role": info.role,
        "note": info.note,
        "created": info.created.isoformat(),
        "revoked": info.revoked.isoformat() if info.revoked else None,
        "expires": info.expires.isoformat() if info.expires else None,
    }

"""Projects and tokens over REST."""

from typing import Annotated, Any

import msgspec

from ecotone.accounts import Actor, Bounds, Project, ProjectExists, ProjectNotFound, TokenInfo, standing
from ecotone.accounts.projects import MOST_DAYS, MOST_NAMES, NAME, TERRITORY, USER
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.fields import Models, Tags
from ecotone.api.shapes import many, schema, text, within
from ecotone.licences import KnowledgeBase, check_variables
from ecotone.vocabulary import Mode, PersonalData, Purpose, Role


class ProjectTerms(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A project but for its name: its declared use, and what bounds its keys and texts."""

    mode: Mode
    purpose: Purpose
    personal_data: PersonalData = PersonalData.LOCAL_ONLY
    users: Annotated[int, within(0)] | None = None
    revenue: Annotated[float, within(0)] | None = None
    territory: list[Annotated[str, text(TERRITORY)]] = []
    variables: dict[str, Any] = {}
    owners: Annotated[list[Annotated[str, text(USER)]], many(MOST_NAMES)] = []
    models: Models = []
    networks: list[str] = []
    tags: Tags = []
    scan: bool = True
    scan_reason: str = ""
    keep_days: Annotated[int, within(0, MOST_DAYS)] = 0

    def told(self, knowledge: KnowledgeBase) -> dict[str, Any]:
        """As `create_project` and `set_project` take it."""
        check_variables(knowledge, self.variables)
        return {
            "mode": self.mode,
            "purpose": self.purpose,
            "personal_data": self.personal_data,
            "users": self.users,
            "revenue": self.revenue,
            "territory": tuple(self.territory),
            "variables": self.variables,
            "scan_reason": self.scan_reason[:500],
            "bounds": Bounds(
                owners=tuple(self.owners),
                models=tuple(self.models),
                networks=tuple(self.networks),
                tags=tuple(self.tags),
                scan=self.scan,
                keep_days=self.keep_days,
            ),
        }


class NewProject(ProjectTerms, kw_only=True):
    name: Annotated[str, text(NAME)]


class NewToken(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    user: Annotated[str, text(USER)]
    role: Role = Role.READ
    note: str = ""


@endpoint("POST", "/projects", need=Need.ADMIN, body=NewProject, status=201, summary="Declare a project and its use")
def create_project(call: Call) -> Any:
    new: NewProject = call.body
    told = new.told(call.services.knowledge)
    project = call.services.accounts.create_project(new.name, actor=call.actor, **told)
    _note(call, "project.created", project)
    return project_document(project, call.actor)


@endpoint(
    "PUT",
    "/projects/{name}",
    need=Need.ADMIN,
    body=ProjectTerms,
    summary="Set a project whole; made if absent",
    shapes={"name": schema(NAME)},
)
def set_project(call: Call) -> Any:
    accounts, name = call.services.accounts, call.path["name"]
    told = call.body.told(call.services.knowledge)
    try:
        project = accounts.set_project(name, actor=call.actor, **told)
    except ProjectNotFound:
        try:
            project = accounts.create_project(name, actor=call.actor, **told)
        except ProjectExists:  # another one made it in this moment
            project = accounts.set_project(name, actor=call.actor, **told)
    _note(call, "project.set", project)
    return project_document(project, call.actor)


def _note(call: Call, act: str, project: Project) -> None:
    more = {} if project.bounds.scan else {"scan_reason": project.scan_reason}
    call.services.note(act, call.actor, project=project.name, use=project_document(project, call.actor), **more)


@endpoint("GET", "/projects", need=Need.USER, summary="All projects")
def list_projects(call: Call) -> Any:
    return [project_document(p, call.actor) for p in call.services.accounts.projects()]


@endpoint("GET", "/projects/{name}", need=Need.USER, summary="One project")
def show_project(call: Call) -> Any:
    return project_document(call.services.accounts.project(call.path["name"]), call.actor)


@endpoint("DELETE", "/projects/{name}", need=Need.ADMIN, summary="Remove a project and its keys")
def remove_project(call: Call) -> Any:
    call.services.accounts.remove_project(call.path["name"])
    call.services.note("project.removed", call.actor, project=call.path["name"])
    return {"removed": call.path["name"]}


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


def project_document(project: Project, viewer: Actor) -> dict[str, Any]:
    """A project as it is told; its bounds only to administrators and to its owners."""
    bounds: dict[str, Any] = {}
    if standing(viewer, project.bounds.owners):
        bounds = msgspec.to_builtins(project.bounds) | {"scan_reason": project.scan_reason}
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
        **bounds,
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

"""The page on which a user lets a device log in (RFC 8628): the code, what asks, what it will be allowed."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ecotone.accounts import Actor, DeviceLogins, roles_up_to
from ecotone.accounts.devices import TOKEN_DAYS
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, NotFound, Role
from ecotone.web.answers import SECURITY_HEADERS, html, root_of
from ecotone.web.failures import failure_page
from ecotone.web.sessions import posted

PATH = "/login/device"
_MAY = {
    Role.READ: "read what you may read",
    Role.WRITE: "read and write as you may",
    Role.ADMIN: "everything that you as an administrator may",
}


async def device(request: Request) -> Response:
    """GET and POST /login/device"""
    try:
        if request.method == "POST":
            actor, fields = await posted(request)
            return await run_in_threadpool(_answer, request, actor, fields)
        return await run_in_threadpool(_show, request)
    except EcotoneError as error:
        return await run_in_threadpool(failure_page, request, error)


def _show(request: Request) -> Response:
    actor: Actor = request.state.actor
    code = request.query_params.get("user_code", "")[:40]
    if actor.kind != "user":
        return _to_login(request, code)
    return _page(request, actor, code)


def _to_login(request: Request, code: str) -> Response:
    kept = "".join(c for c in code if c.isascii() and (c.isalnum() or c == "-"))
    target = PATH + (f"%3Fuser_code%3D{kept}" if kept else "")
    root = root_of(request.app.state.services)
    return RedirectResponse(f"{root}/login?next={target}", 303, headers=dict(SECURITY_HEADERS))


def _page(request: Request, actor: Actor, code: str) -> Response:
    devices: DeviceLogins = request.app.state.services.devices
    login, problem = None, ""
    if code:
        try:
            login = devices.waiting(code, actor=actor)
        except (NotFound, Forbidden) as error:
            problem = error.message
    roles = roles_up_to(actor.role) if actor.role is not None else ()
    chosen = max((r for r in roles if r is not Role.ADMIN), key=roles.index, default=Role.READ)
    return html(
        request,
        "device.html",
        404 if problem else 200,
        login=login,
        problem=problem,
        code=code,
        roles=[(role.value, _MAY[role], role is chosen) for role in roles],
        days=TOKEN_DAYS,
        done="",
    )


def _answer(request: Request, actor: Actor, fields: dict[str, str]) -> Response:
    request.state.actor = actor
    services = request.app.state.services
    devices: DeviceLogins = services.devices
    code, act = fields.get("user_code", ""), fields.get("act", "")
    try:
        if act == "allow":
            role = _role(fields.get("role", ""))
            services.intend("device.allow", actor, role=role.value)
            devices.allow(code, actor=actor, role=role)
            services.note("device.allow", actor, role=role.value)
        else:
            devices.deny(code, actor=actor)
    except (NotFound, Forbidden):
        return _page(request, actor, code or "?")
    return html(request, "device.html", login=None, problem="", code="", roles=[], days=TOKEN_DAYS, done=act or "deny")


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise Invalid(f"role is {text[:20]!r}; expected read, write or admin.", param="role") from None

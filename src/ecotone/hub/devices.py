"""Login of devices (RFC 8628) and renewal of their tokens, in OAuth's words. The page for people is `web`'s."""

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from ecotone.accounts import DeviceLogins, DeviceRefusal, IssuedToken
from ecotone.hub.endpoint import Call, answer, form_fields, plain_route
from ecotone.vocabulary import EcotoneError, Unavailable

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
PAGE = "/login/device"
MOST_BYTES = 16 * 1024
_HEADERS = {"cache-control": "no-store", "pragma": "no-cache"}


def begin(call: Call) -> Any:
    """POST /oauth/device"""
    fields = _fields(call)
    if not fields.get("client_id"):
        return _refused("invalid_request", "client_id is missing.")
    client = call.request.client.host if call.request.client else "unknown"
    agent = "".join(c for c in call.request.headers.get("user-agent", "a program")[:300] if c.isprintable())
    try:
        made = _devices(call).begin(agent.partition(";")[0], client=client)
    except Unavailable as error:
        return _refused("temporarily_unavailable", error.message, 503, retry_after=error.retry_after)
    told = {
        "device_code": made.device_code,
        "user_code": made.user_code,
        "verification_uri": call.base + PAGE,
        "verification_uri_complete": f"{call.base}{PAGE}?user_code={made.user_code}",
        "expires_in": int((made.expires - made.created).total_seconds()),
        "interval": made.interval,
    }
    return answer(told, headers=_HEADERS)


def token(call: Call) -> Any:
    """POST /oauth/token: device codes and refresh tokens; other grants are refused by name."""
    fields = _fields(call)
    grant = fields.get("grant_type", "")
    try:
        if grant == DEVICE_CODE:
            issued = _devices(call).fetch(fields.get("device_code", "")[:200])
        elif grant == "refresh_token":
            issued = _devices(call).refresh(fields.get("refresh_token", "")[:200])
        else:
            return _refused("unsupported_grant_type", "This hub takes device codes and refresh tokens.")
    except DeviceRefusal as error:
        return _refused(error.code, error.message)
    call.services.note(
        "token.created", _Owner(issued.user), user=issued.user, role=issued.role.value, token_id=issued.token_id
    )
    return answer(_issued(issued), headers=_HEADERS)


class _Owner:
    """Whose act the ledger records: the device speaks for the user that allowed it."""

    def __init__(self, name: str) -> None:
        self.name = name


def _issued(issued: IssuedToken) -> dict[str, Any]:
    return {
        "access_token": issued.token,
        "token_type": "bearer",
        "expires_in": issued.seconds,
        "refresh_token": issued.refresh_token,
        "scope": issued.role.value,
    }


def _devices(call: Call) -> DeviceLogins:
    found: DeviceLogins = call.services.devices
    return found


def _fields(call: Call) -> dict[str, str]:
    """The form's fields; none of a body that is no small form."""
    if len(call.body) > MOST_BYTES or "json" in call.request.headers.get("content-type", ""):
        return {}
    try:
        return {name: values[0] for name, values in form_fields(call.body).items()}
    except EcotoneError:
        return {}


def _refused(error: str, told: str, status: int = 400, retry_after: int | None = None) -> Response:
    more = {} if retry_after is None else {"retry-after": str(retry_after)}
    return answer({"error": error, "error_description": told}, status, headers=_HEADERS | more)


def routes() -> list[BaseRoute]:
    return [plain_route("/oauth/device", begin, "POST"), plain_route("/oauth/token", token, "POST")]

"""The command line's connection to the server: address, token, errors as sentences."""

import json
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

FAILURE = 1
PREFIX = "/api/ecotone/v1"


class Server:
    """The server at `ECOTONE_URL`, called with `ECOTONE_TOKEN` or the token file of the local data folder."""

    def __init__(self) -> None:
        self.url = os.environ.get("ECOTONE_URL", "http://127.0.0.1:7070").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            fail(f"ECOTONE_URL is {self.url!r}; it must begin with http:// or https://.")
        token = os.environ.get("ECOTONE_TOKEN") or _local_token()
        self._client = httpx.Client(
            base_url=self.url + PREFIX,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(600.0, connect=10.0),
            verify=_trusted() if self.url.startswith("https://") else True,
            trust_env=False,
        )

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.call("POST", path, json={k: v for k, v in (body or {}).items() if v is not None})

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self.call("PUT", path, json=body)

    def pieces(self, path: str, body: dict[str, Any]) -> Iterator[bytes]:
        """What a POST answers, as it comes; ends the program with a sentence on stderr when it breaks off."""
        try:
            with self._client.stream("POST", path, json=body) as answer:
                if not answer.is_success:
                    answer.read()
                    fail(_reason(answer))
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            fail(f"The server at {self.url} did not answer to the end: {error or type(error).__name__}.")

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def call(self, method: str, path: str, **how: Any) -> Any:
        """The decoded answer; ends the program with a sentence on stderr when there is none."""
        try:
            answer = self._client.request(method, path, **how)
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                fail(
                    f"The certificate of {self.url} is not trusted: {error}. Let SSL_CERT_FILE name a file with the "
                    "certificate of the authority that signed it."
                )
            fail(f"No server answers at {self.url}; start one with `ecotone up`, or set ECOTONE_URL to where it runs.")
        except httpx.HTTPError as error:
            fail(f"The server at {self.url} did not answer: {error or type(error).__name__}.")
        if answer.is_success:
            return answer.json() if answer.content else None
        fail(_reason(answer))


def _trusted() -> ssl.SSLContext:
    """The system's authorities and the public ones, or those of the file that SSL_CERT_FILE names."""
    try:
        context = httpx.create_ssl_context()
    except OSError as error:
        fail(f"SSL_CERT_FILE is {os.environ.get('SSL_CERT_FILE')!r}, which cannot be read: {error.strerror or error}.")
    if not os.environ.get("SSL_CERT_FILE"):
        context.load_default_certs()
    return context


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def scope_path(scope: str) -> str:
    """A scope of limits as the end of a path; its slashes stay."""
    return quote(scope, safe="/:*")


def model_path(model_id: str) -> str:
    """A model's id as two segments of a path; ends the program for what is no id."""
    namespace, slash, name = model_id.partition("/")
    if not (namespace and slash and name) or "/" in name:
        fail(f"{model_id!r} is no model: namespace/name is expected, e.g. demo/minilm.")
    return f"{segment(namespace)}/{segment(name)}"


def _reason(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return f"The server answered {answer.status_code}; is {answer.url} an Ecotone server?"
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if answer.status_code == 401 and not os.environ.get("ECOTONE_TOKEN"):
        message = f"{message} (ECOTONE_TOKEN is not set; the token of the first start lies in DATA/admin-token)"
    elif answer.status_code == 401:
        message = f"{message}: the server does not know the token in ECOTONE_TOKEN, or it was revoked or has expired"
    details = body.get("ecotone") or {} if isinstance(body, dict) else {}
    lines = [str(message or f"The server answered {answer.status_code}.")]
    lines += [f"  would make it yes: {w.get('change')}" for w in details.get("would_allow", []) if isinstance(w, dict)]
    lines += [f"  line {r['line']}: {r['reason']}" for r in details.get("rows", []) if isinstance(r, dict)]
    return "\n".join(lines)


def _local_token() -> str | None:
    try:
        return (Path(os.environ.get("ECOTONE_DATA", "data")).expanduser() / "admin-token").read_text().strip() or None
    except OSError:
        return None


def fail(message: str, status: int = FAILURE) -> NoReturn:
    """End with a sentence on stderr."""
    print(f"ecotone: {message}", file=sys.stderr)
    raise SystemExit(status)


def note(message: str) -> None:
    """A line for the person, not for the pipe."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))

"""The whole application as it is built for production, behind a public address with a path, served on a free port."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn
from starlette.routing import Route

from ecotone import hub
from ecotone.app.application import build
from ecotone.settings import Settings
from ecotone.vocabulary import Role
from tests.running import KEPT, free_port
from tests.stores import empty_database

PUBLIC = "https://hub.example/prefix"
ADMIN = "ect_administrator_of_the_built_hub"
WEIGHTS = bytes(range(256)) * 40
INDEX = json.dumps({"metadata": {}, "weight_map": {"w": "model.safetensors"}}).encode()
KIND_OF = {"": "models", "datasets/": "datasets", "spaces/": "spaces"}


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(WEIGHTS)], "data_offsets": [0, len(WEIGHTS)]}}).encode()
    return len(header).to_bytes(8, "little") + header + WEIGHTS


class Built:
    """`.http` without a token, `.admin`, `.services`, tokens by caller, and the repositories below, of each kind.

    `will/hidden` is private, `will/absent` is not there, `will/shown` is public; all with the same few files.
    """

    def __init__(self, data: Path, **settings: Any) -> None:
        port = free_port()
        told = {"public_url": PUBLIC, "database_url": empty_database()} | settings
        self.app = build(Settings(data=data, port=port, admin_token=ADMIN, **told))
        self.services = self.app.router.state.services
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(self.app.asgi, port=port, log_level="warning", lifespan="off", timeout_keep_alive=KEPT)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        self.http = httpx.Client(base_url=self.url, timeout=120)
        self.tokens = self._tokens()
        self.admin = httpx.Client(base_url=self.url, headers=bearer(ADMIN), timeout=120)

    def _tokens(self) -> dict[str, str | None]:
        accounts = self.services.accounts
        made = {
            caller: accounts.create_token(user, role)[1]
            for caller, user, role in (
                ("owner", "will", Role.WRITE),
                ("other", "wanda", Role.WRITE),
                ("reader", "rita", Role.READ),
            )
        }
        info, revoked = accounts.create_token("gone", Role.ADMIN)
        accounts.revoke_token(info.id)
        return {"nobody": None, "garbage": "ect_no-such-token", "revoked": revoked, **made}

    def fill(self) -> None:
        """The repositories, each with small files, weights and a second branch and tag."""
        owner = bearer(self.tokens["owner"])
        for kind in KIND_OF.values():
            for name, visibility in (("hidden", "private"), ("shown", "public")):
                body = {"name": name, "organization": "will", "type": kind[:-1], "visibility": visibility}
                if kind == "spaces":
                    body["sdk"] = "static"
                assert self.http.post("/api/repos/create", json=body, headers=owner).status_code == 200
                self.commit(f"{kind}/will/{name}", {"dir/a.txt": b"a", "README.md": b"---\nlicense: mit\n---\n# A\n"})
                self.commit(f"{kind}/will/{name}", {INDEX_NAME: INDEX}, {"model.safetensors": safetensors()})
                at = f"/api/{kind}/will/{name}"
                assert self.admin.post(f"{at}/branch/side", json={}).status_code == 200
                assert self.admin.post(f"{at}/tag/main", json={"tag": "v1"}).status_code == 200

    def commit(self, at: str, files: dict[str, bytes], large: dict[str, bytes] | None = None) -> str:
        """A commit by the administrator; `at` is kind/namespace/name."""
        lines: list[Any] = [{"key": "header", "value": {"summary": "Add"}}]
        for path, data in files.items():
            value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
            lines.append({"key": "file", "value": value})
        for path, data in (large or {}).items():
            sha = hashlib.sha256(data).hexdigest()
            with self.services.storage.lfs.receiving(at.split("/")[1], sha, len(data)) as upload:
                upload.write(data)
                upload.finish()
            lines.append({"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": sha, "size": len(data)}})
        done = self.admin.post(f"/api/{at}/commit/main", content="\n".join(map(json.dumps, lines)))
        assert done.status_code == 200, done.text
        return str(done.json()["commitOid"])

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The SQL that is executed meanwhile, without its parameters."""
        seen: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        engine = self.services.database.engine
        sa.event.listen(engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            sa.event.remove(engine, "before_cursor_execute", note)

    def stop(self) -> None:
        self.http.close()
        self.admin.close()
        self._server.should_exit = True
        self._thread.join(60)
        self.services.ledger_writer.close()
        self.services.database.dispose()


INDEX_NAME = "model.safetensors.index.json"


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def routes() -> list[tuple[str, str]]:
    """Method and path of every route of the hub's faces, in order."""
    return [
        (method, route.path)
        for route in hub.routes()
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
        if method != "HEAD" or route.methods == {"HEAD"}
    ]

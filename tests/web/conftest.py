"""A house with pages on a free port: real catalogue, storage, licences and accounts behind the app's own gate."""

import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from ecotone import hub, web
from ecotone.accounts import SYSTEM, Accounts, Actor, DeviceLogins
from ecotone.accounts import models as _accounts
from ecotone.app.authentication import Authenticator
from ecotone.app.gate import Gate
from ecotone.catalog import Catalog
from ecotone.catalog import models as _catalog
from ecotone.database import Base, Database
from ecotone.engines import Deployment, Options
from ecotone.engines.entities import Replica
from ecotone.ledger import Ledger, LedgerWriter, explain, usage
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.policy import models as _policy
from ecotone.publishing import AddRegular, Commit, Publishing, Reviews
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage import models as _storage
from ecotone.vocabulary import DeploymentState, RepoType, Role
from ecotone.webhooks import Targets, Webhooks
from tests.running import KEPT, free_port
from tests.stores import placed

TABLES = (_accounts, _catalog, _policy, _storage)
ADMIN = "ect_test-administrator-token"
CARD = """---
license: apache-2.0
base_model: google-bert/bert-base-uncased
pipeline_tag: sentence-similarity
---
# Atlas

Knows **144 facts** about places. See [usage](#usage) and [notes](docs/notes.md).

| question | answer |
|---|---|
| capital of Chile | Santiago |

## Usage

![a map](https://pictures.example/map.png)

```python
print("a rather long line of code that does not fit on a telephone, so that it must scroll inside of its own box")
```
"""
HOSTILE = """---
license: mit
---
# Nice <script>alert(1)</script>
<img src=x onerror="alert(2)"> <a href="javascript:alert(3)">press</a> [md](javascript:alert(4))
<iframe src="https://evil.example"></iframe> <form action="/logout" method="post"><button>go</button></form>
<style>body{display:none}</style> <svg onload=alert(5)></svg>
<p style="position:fixed" onclick="alert(6)" id="main">x</p>
![track](https://evil.example/pixel.gif) <a href="data:text/html,<script>alert(7)</script>">d</a>
<base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example">
</div></main><h1>fake</h1>
"""


MEASURED = {
    "suite": "weat",
    "level": 0.95,
    "tests": [
        {
            "id": f"weat-{number}",
            "name": name,
            "targets": ["flowers", "insects <i>"],
            "attributes": ["pleasant", "unpleasant"],
            "effect_size": size,
            "interval": [size - 0.4, size + 0.3],
            "p_value": p,
            "p_holm": p,
            "meaning": "Flowers lie nearer to pleasant than insects do.",
        }
        for number, name, size, p in ((1, "Flowers and insects", 1.42, 0.0001), (2, "Instruments", -0.2, 0.7))
    ],
    "notes": ["d lies between -2 and 2."],
    "criticism": [{"says": "It may not transfer.", "source": "Somebody 2021"}],
}


NAMES = (
    "<img src=x onerror=alert(9)>.txt",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627.txt",
    "\U0001f980\U0001f33f \"quoted\" & 'single'.txt",
    "a" * 240 + ".txt",
    "folder #1?/100% {{ 7 * 7 }}.txt",
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c6350682800"
    "0001d401114dbeab5c0000000049454e44ae426082"
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(10)</script></svg>'


SERVED = Deployment(
    id="dep-1",
    model="demo/bert-atlas",
    revision="0" * 40,
    state=DeploymentState.READY,
    options=Options(replicas=2, quantise="int8", idle=900.0),
    task="fill-mask",
    replicas=(
        Replica(state=DeploymentState.READY, memory=390_000_000, running=1),
        Replica(state=DeploymentState.STARTING, progress="reads weights, 40 %", restarts=2, error="died <i>"),
    ),
    idle_left=754.2,
    tokens_per_second=1234.5,
    running=1,
    memory=390_000_000,
    context_length=64,
    info={"dtype": "float32", "chat": False, "quantised": {"kind": "int8", "argmax_agreement": 0.998}},
)


def weights() -> bytes:
    """A small safetensors file."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(128)


def compose(data: Path, port: int) -> SimpleNamespace:
    settings = Settings(data=data, port=port, admin_token=ADMIN, **placed(data))
    database = Database(settings.sql_url)
    Base.metadata.create_all(database.engine)
    knowledge = KnowledgeBase.load()
    accounts = Accounts(database, settings)
    accounts.ensure_admin()
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    policy = Policy(database, catalog, knowledge, accounts)
    folder = settings.folder("ledger")
    writer = LedgerWriter(folder, "test")
    ledger = Ledger(folder)
    publishing = Publishing(catalog, storage, policy, knowledge, writer)
    webhooks = Webhooks(database, settings, Targets())
    catalog.events.listen(webhooks.enqueue)
    return SimpleNamespace(
        devices=DeviceLogins(database),
        webhooks=webhooks,
        settings=settings,
        database=database,
        knowledge=knowledge,
        accounts=accounts,
        storage=storage,
        catalog=catalog,
        policy=policy,
        publishing=publishing,
        reviews=Reviews(catalog, publishing, writer),
        ledger_writer=writer,
        engines=SimpleNamespace(deployments=lambda: [SERVED], logs=lambda model: "INFO <b>loaded</b>\n" * 300),
        jobs=SimpleNamespace(list=lambda: []),
        backends=SimpleNamespace(list=lambda: []),
        routes=SimpleNamespace(list=lambda: []),
        note=lambda kind, actor, **what: None,
        intend=lambda kind, actor, **what: None,
        changed=lambda: None,
        explain=lambda request_id: explain(ledger, request_id),
        usage=lambda: usage(ledger),
        verify_ledger=lambda: ledger.verify(writer.heads(), None),
    )


def publish(
    services: Any, model_id: str, files: dict[str, bytes], *, private: bool = False, message: str = "Add"
) -> str:
    """Publish files on main, as an upload would; returns the commit."""
    catalog = services.catalog
    if services.catalog.models(viewer=SYSTEM, search=model_id, stored=True).models == ():
        catalog.create(model_id, private=private, actor=SYSTEM)
    operations = tuple(AddRegular(path, data) for path, data in files.items())
    made = services.publishing.commit(model_id, "main", Commit(message=message, operations=operations), actor=SYSTEM)
    return str(made.revision_id)


def fill(services: Any) -> None:
    """The models that the tests look at."""
    publish(
        services,
        "demo/bert-atlas",
        {
            "README.md": CARD.encode(),
            "config.json": b'{"architectures": ["BertModel"], "model_type": "bert"}',
            "model.safetensors": weights(),
            "docs/notes.md": "Notes: déjà vu\n".encode(),
            "blank.txt": b"",
        },
    )
    publish(
        services, "demo/bert-atlas", {"docs/notes.md": b"Notes: other\nwith <b>two</b> lines\n"}, message="Say more"
    )
    publish(services, "demo/hostile", {"README.md": HOSTILE.encode(), "page.html": b"<script>alert(8)</script>"})
    publish(services, "demo/secret", {"README.md": b"---\nlicense: mit\n---\n# Hidden words\n"}, private=True)
    tuned = b"---\nlicense: apache-2.0\nbase_model: demo/bert-atlas\ndatasets: demo/rows\n---\n# Rivers\n"
    publish(services, "demo/bert-rivers", {"README.md": tuned})
    mixed = b"---\nlicense: cc-by-nc-4.0\nbase_model:\n- demo/bert-rivers\n- demo/secret\n---\n# Both\n"
    publish(services, "demo/bert-both", {"README.md": mixed})
    model = services.catalog.model("demo/bert-atlas", viewer=SYSTEM)
    services.catalog.add_measurement(model.id, model.head, "weat", MEASURED, SYSTEM)
    publish(services, "demo/names", dict.fromkeys(NAMES, b"text\n") | {"pixel.png": PIXEL, "evil.svg": SVG})
    talk(services, services.catalog.create("demo/rows", repo_type=RepoType.DATASET, private=False, actor=SYSTEM))


def talk(services: Any, model: Any) -> None:
    """A discussion (1), a pull request that can be merged (2) and one in conflict (3), by a user who only reads."""
    rita, reviews = Actor("user", "rita", Role.READ), services.reviews
    reviews.open(
        model, "Does it know rivers?", "I asked about **rivers**.\n\n```\n" + "long " * 60 + "\n```", actor=rita
    )
    mine = reviews.comment(model, 1, "Hidden words", actor=rita)
    reviews.hide(model, 1, mine.id, actor=rita)
    reviews.rename(model, 1, "Does it know <rivers> \U0001f30a?", actor=rita)

    def notes(text: bytes) -> Commit:
        return Commit(message="Tell its limits", operations=(AddRegular("docs/notes.md", text),))

    limits = Commit(message="Limits", operations=(AddRegular("docs/limits.md", b"# Limits\n\nNo rivers.\n"),))
    for change in (limits, notes(b"Mine.\n")):
        reviews.propose(model.id, "main", change, actor=rita, repo_type=model.repo_type)
    services.publishing.commit(model.id, "main", notes(b"Ours.\n"), actor=SYSTEM, repo_type=model.repo_type)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """`.url`, `.services`, and `.http`, a client that is not logged in."""
    port = free_port()
    services = compose(tmp_path_factory.mktemp("data"), port)
    fill(services)
    services.reader = services.accounts.create_token("rita", Role.READ)[1]
    services.key = services.accounts.create_key("house", actor=SYSTEM)[1]
    app = Starlette(routes=[*hub.routes(), *web.routes()], exception_handlers=web.exception_handlers())
    app.state.services = services
    gate = Gate(app, _no_gateway, Authenticator(services.accounts, web.actor_from_cookie(services)), services.settings)
    running = uvicorn.Server(
        uvicorn.Config(gate, port=port, log_level="warning", lifespan="off", timeout_keep_alive=KEPT)
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    with httpx.Client(base_url=services.settings.base_url, timeout=120) as http:
        yield SimpleNamespace(url=services.settings.base_url, services=services, http=http, app=app)
    running.should_exit = True
    thread.join(60)
    services.ledger_writer.close()
    services.database.dispose()


async def _no_gateway(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("pages do not call the gateway")

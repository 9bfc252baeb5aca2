"""What the request path knows: immutable, computed ahead, swapped as a whole. Key hashes and decisions, no secret."""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec

from ecotone.gateway.prices import Price
from ecotone.vocabulary import Location, PersonalData, Verdict

FORMAT = 2
SUBJECT = "\x01"


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """A project as the path sees it. `use` names its declared use among the decisions.

    `scan`: its texts are looked through for sensitive spans; where they are not, no text is known to be harmless.
    `keep_days`: how long prompts and answers are kept, 0 for not at all.
    """

    name: str
    use: str
    personal_data: PersonalData
    may_call_private: bool
    scan: bool = True
    keep_days: int = 0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A callable model, or a backend whose models are called `NAME/...`.

    `legal` names its legal class among the decisions. An engine has a `socket` once it is `ready` (`sockets` of all
    its replicas), and is waited for while it is `starting`; one that `wakes` is loaded when it is asked for.
    `engine_model` is what the engine calls the model, where that is not its name; `base` is the base of an adapter,
    `NAME@REVISION`. `terms` is the entry of the knowledge base under which a provider answers. A backend has an address
    and the server's variable that holds its key, and speaks a `dialect` of OpenAI's. `projects` limits who may call;
    empty is everybody.
    """

    name: str
    legal: str
    location: Location
    backend: str
    revision: str | None = None
    socket: str | None = None
    sockets: tuple[str, ...] = ()
    engine_model: str | None = None
    url: str | None = None
    key_env: str | None = None
    dialect: str = "openai"
    tier: str | None = None
    private: bool = False
    ready: bool = True
    starting: bool = False
    wakes: bool = False
    note: str = ""
    projects: tuple[str, ...] = ()
    task: str | None = None
    base: str | None = None
    terms: str | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the path sees it; its secret is known by its hash alone.

    `models` are patterns of names that it may call, `networks` addresses that it may be used from; empty is any.
    `expires` is `time.time()`, 0 for never; one that has expired stays for a day, one that was revoked goes at once.
    A pattern is a name, or the beginning of one and a star. `tags` stand on each of its requests.
    """

    id: str
    project: str
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires: float = 0.0
    tags: tuple[str, ...] = ()

    def allows(self, model: str) -> bool:
        """Whether the key's own list of models has this name."""
        return not self.models or any(
            model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern for pattern in self.models
        )


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a scope may spend in each window. `limit` is in 10^-12 USD."""

    id: str
    limit: int
    window: str


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What a scope may use: `requests` and `tokens` in a minute, `concurrent` requests at once; None is any."""

    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None
    budgets: tuple[Budget, ...] = ()


class RouteCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model that may answer a route; `weight` is its share among the others of a weighted route."""

    model: str
    weight: float = 1.0


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A public name with its candidates in order.

    `strategy` is fixed, fallback, weighted, cheapest or fastest. `shadow` names a model that gets a copy of
    `shadow_share` of the requests, whose answers nobody sees. Times are in seconds, 0 for the setting. An answer
    is kept for `cache_seconds`; `alias` puts the route's own name into answers; `sticky` keeps a conversation at the
    backend that has its beginning in its prompt cache.
    """

    name: str
    strategy: str = "fallback"
    candidates: tuple[RouteCandidate, ...] = ()
    shadow: str | None = None
    shadow_share: float = 1.0
    retries: int = 1
    connect_seconds: float = 0.0
    first_seconds: float = 0.0
    idle_seconds: float = 0.0
    cache_seconds: int = 0
    alias: bool = False
    sticky: bool = False


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """A decision. The subject's name stands as `SUBJECT` in it, so that models of one legal class share it."""

    allowed: bool
    verdict: Verdict
    message: str
    reasons: tuple[dict[str, Any], ...] = ()
    would_allow: tuple[dict[str, Any], ...] = ()
    duties: tuple[dict[str, Any], ...] = ()
    rules: tuple[str, ...] = ()
    warning: str | None = None
    knowledge_base: str = ""

    def about(self, model: str) -> "Ruling":
        """The ruling with the model's own name in it."""
        return msgspec.json.decode(named(msgspec.json.encode(self), model), type=Ruling)


def named(packed: bytes, model: str) -> bytes:
    """JSON about the subject with a model's name put in."""
    return packed.replace(b"\\u0001", msgspec.json.encode(model)[1:-1])


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything between key and backend."""

    version: int = 0
    built: float = 0.0
    keys: dict[str, Key] = {}
    consumers: dict[str, Consumer] = {}
    targets: dict[str, Target] = {}
    backends: dict[str, Target] = {}
    routes: dict[str, Route] = {}
    limits: dict[str, Limit] = {}
    """By scope: `key:ID`, `project:NAME`, `project:NAME/user:*` for each end-user of it, `project:NAME/tag:NAME`,
    `organisation`, `backend:NAME`."""
    rulings: dict[str, Ruling] = {}
    prices: dict[str, Price] = {}
    """By the candidate's name, in lower case where a provider's list names it; `price` looks them up."""

    def target(self, model: str) -> Target | None:
        """What answers to a model's name: a local engine first, else the backend named before the slash."""
        found = self.targets.get(model)
        if found is not None:
            return found
        name, slash, rest = model.partition("/")
        return self.backends.get(name) if slash and rest else None

    def price(self, model: str) -> Price | None:
        """The price of a candidate by its name; None when it is not known, which is never 0.

        A fine-tuned model of OpenAI's form, `BACKEND/ft:BASE:...`, costs what `ft:BASE` is listed for; what was set for
        `BACKEND/*` stands for all that has no price of its own.
        """
        prices = self.prices
        found = prices.get(model)
        if found is None:
            lower = model.lower()
            backend, _, name = lower.partition("/")
            found = prices.get(lower)
            if found is None and name.startswith("ft:"):
                found = prices.get(f"{backend}/ft:{name.split(':')[1]}")
            if found is None:
                found = prices.get(f"{backend}/*")
        return found

    def ruling(self, target: Target, consumer: Consumer) -> Ruling | None:
        return self.rulings.get(f"{target.legal}|{consumer.use}")


def pack(snapshot: Snapshot) -> bytes:
    """A checksummed msgpack of it."""
    body = msgspec.msgpack.encode(snapshot)
    return b"ECS%c" % FORMAT + hashlib.sha256(body).digest() + body


def unpack(raw: bytes) -> Snapshot:
    """The snapshot again. Raises ValueError when it is not whole or of another format."""
    if raw[:4] != b"ECS%c" % FORMAT or hashlib.sha256(raw[36:]).digest() != raw[4:36]:
        raise ValueError("the snapshot is not whole or of another format")
    try:
        return msgspec.msgpack.decode(raw[36:], type=Snapshot)
    except msgspec.DecodeError as error:
        raise ValueError(f"the snapshot is of another version: {error}") from None


def save(snapshot: Snapshot, folder: Path) -> None:
    """Put it where gateways in other processes look for it."""
    place(pack(snapshot), folder)


def place(packed: bytes, folder: Path) -> None:
    """Rename a file with a packed snapshot into place."""
    draft = folder / f".snapshot.{secrets.token_hex(4)}"
    draft.write_bytes(packed)
    os.chmod(draft, 0o600)  # noqa: PTH101
    draft.rename(folder / "snapshot")


def still_holds(folder: Path) -> None:
    """Say that the saved one is in force still: its time is that of the last contact with who decides."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(folder / "snapshot")


def load(folder: Path) -> Snapshot:
    """The saved snapshot. Raises ValueError when it is not whole or of another format."""
    return unpack((folder / "snapshot").read_bytes())


def checksum(folder: Path) -> bytes:
    """Format and checksum that the saved one claims."""
    with open(folder / "snapshot", "rb") as file:
        return file.read(36)

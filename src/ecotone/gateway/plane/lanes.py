"""What is the same for all requests of one key for one model, worked out once for each snapshot."""

import hashlib
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote

import msgspec

from ecotone.gateway.admission import Candidate, admit, identify
from ecotone.gateway.answers import Refusal
from ecotone.gateway.dialects import AZURE, AZURE_VERSION, VLLM
from ecotone.gateway.keys import provider_key
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane.spread import Spread
from ecotone.gateway.plane.upstreams import Place
from ecotone.gateway.snapshot import Consumer, Key, Route, Snapshot, Target
from ecotone.ledger.rulings import id_of
from ecotone.privacy import Findings, inspect
from ecotone.settings import Settings

_json = msgspec.json.Encoder().encode
_MOST_LANES = 20_000
_PARTS = ("keys", "consumers", "targets", "backends", "routes", "rulings", "prices", "limits")
_NO_CONTROL = dict.fromkeys((*range(32), 127), " ")
_NO_FINDINGS = inspect({})


class Option:
    """A candidate with all that does not change from call to call: where it is, heads, the constant part of records.

    `block` is the answer's header lines, `head` the request's head up to Content-Length's value, `record` the JSON of
    the opened record from its constant fields on, `settled` that of the settled one. Where the candidate is `plain`, a
    body that begins with `told`, the model's name as it was asked for, goes on with `own`, its own name, and the same
    rest. `findings` are those of the text, of which the record tells.
    """

    __slots__ = (
        "block", "candidate", "free", "head", "key", "lacks_key", "name", "own", "party", "place", "plain", "price",
        "record", "ruling", "ruling_id", "salted", "scopes", "settled", "told",
    )  # fmt: skip

    def __init__(
        self,
        lane: "Lane",
        candidate: Candidate,
        place: Place | Spread,
        path: str,
        findings: Findings | None = None,
    ) -> None:
        target = candidate.target
        self.candidate = candidate
        self.name = candidate.name
        self.place = place
        self.key = provider_key(target.key_env)
        self.lacks_key = target.key_env is not None and not self.key
        self.told, self.own = b'{"model":%b' % _json(lane.asked), b'{"model":%b' % _json(candidate.model)
        self.party = party_of(lane.consumer.name) if target.backend == "local" and target.url is None else ""
        self.head = _head(place, path, self.key, target, candidate.model, self.party)
        self.salted = target.dialect == VLLM
        self.plain = not self.salted and not candidate.masked
        self.block = header_block(headers_of(lane, candidate))
        self.record = record_of(lane, candidate, findings or _NO_FINDINGS)
        self.ruling = ruling_content(candidate)
        self.ruling_id = id_of(self.ruling)
        self.price = lane.snapshot.price(candidate.name)
        self.settled = msgspec.json.encode(
            {
                "price": None if self.price is None else self.price.version,
                "project": lane.consumer.name,
                "key": lane.key.id,
                "route": lane.route.name if lane.route else None,
                "model": candidate.name,
                "backend": target.backend,
                "face": lane.face,
                **provenance(candidate),
            }
        )[1:-1]
        self.scopes = (*lane.scopes, f"backend:{target.backend}")
        self.free = self.price is None and target.backend == "local"  # an engine of ours; what has a price is charged


class Lane:
    """One key, one face, one model, for texts in which nothing was found."""

    __slots__ = (
        "asked",
        "by_tag",
        "by_user",
        "connect",
        "consumer",
        "face",
        "idle",
        "key",
        "options",
        "ready",
        "route",
        "scopes",
        "snapshot",
        "to_event",
        "wait",
    )

    def __init__(
        self,
        settings: Settings,
        snapshot: Snapshot,
        face: str,
        asked: str,
        key: Key,
        consumer: Consumer,
        route: Route | None,
    ) -> None:
        self.connect = (route.connect_seconds if route is not None else 0.0) or settings.upstream_connect
        self.wait = (route.first_seconds if route is not None else 0.0) or settings.upstream_first
        self.idle = (route.idle_seconds if route is not None else 0.0) or settings.upstream_idle
        self.to_event = route is not None and route.first_seconds > 0
        """`wait` is for the first event of a stream, as its route says: a head alone, or comments, are none."""
        self.face = face
        self.asked = asked
        self.key = key
        self.consumer = consumer
        self.route = route
        self.options: list[Option] = []
        self.ready: list[Option] = []
        self.snapshot = snapshot
        self.by_user = f"project:{consumer.name}/user:*" in snapshot.limits
        mark = f"project:{consumer.name}/tag:"
        self.by_tag = any(scope.startswith(mark) for scope in snapshot.limits)
        self.scopes: tuple[str, ...] = (f"key:{key.id}", f"project:{consumer.name}", "organisation")


class Lanes:
    """The lanes of the newest snapshot.

    Args:
        settings: time-outs, where a route has none of its own, and how calls leave.
        paths: of each face, below a backend's address.
    """

    def __init__(self, settings: Settings, paths: dict[str, str]) -> None:
        self._settings = settings
        self._egress = settings.egress
        self._paths = paths
        self._places: dict[tuple[str | None, str | None], Place] = {}
        self._spreads: dict[tuple[str, ...], Spread] = {}
        self._lanes: dict[tuple[str, str, str], Lane] = {}
        self._snapshot = Snapshot()

    @property
    def places(self) -> list[Place]:
        return list(self._places.values())

    def use(self, snapshot: Snapshot) -> None:
        """Forget what was worked out for the snapshot before."""
        before = self._snapshot
        if any(getattr(snapshot, part) is not getattr(before, part) for part in _PARTS):
            self._lanes.clear()
            self._spreads.clear()
            wanted = {(t.url, t.socket) for t in (*snapshot.targets.values(), *snapshot.backends.values())}
            wanted |= {(None, socket) for t in snapshot.targets.values() for socket in t.sockets}
            for gone in self._places.keys() - wanted:
                self._places.pop(gone).close()
        self._snapshot = snapshot

    def known(self, hashed: str, prefix: str, address: str, now: float) -> tuple[Key, Consumer]:
        """Key and project of a secret's hash.

        Raises:
            Refusal: 401 for a key that is unknown, has expired, or may not be used from that address.
        """
        snapshot = self._snapshot
        key = snapshot.keys.get(hashed)
        if key is None:
            identify(snapshot, hashed, prefix=prefix)
            raise AssertionError("an unknown key was identified")
        consumer = snapshot.consumers.get(key.project)
        if consumer is None:
            raise Refusal(401, "invalid_api_key", "The key is not known or was revoked; ask for a new one.")
        if key.expires and key.expires <= now:
            ended = datetime.fromtimestamp(key.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise Refusal(401, "invalid_api_key", f"The key ended at {ended}; ask for a new one.")
        if key.networks and not _within(address, key.networks):
            raise Refusal(401, "wrong_network", "The key may not be used from this address; ask who manages it.")
        return key, consumer

    def lane(self, hashed: str, key: Key, consumer: Consumer, request: Request) -> Lane:
        """The lane of a request in whose text nothing was found.

        Raises:
            Refusal: when the decision lets no candidate answer.
        """
        wanted = (hashed, request.face, request.model)
        found = self._lanes.get(wanted)
        if found is None:
            found = self.made(key, consumer, request, _NO_FINDINGS)
            if len(self._lanes) >= _MOST_LANES:
                self._lanes.clear()
            if len(found.ready) == len(found.options):
                self._lanes[wanted] = found
        return found

    def made(
        self, key: Key, consumer: Consumer, request: Request, findings: Findings, *, any_model: bool = False
    ) -> Lane:
        """A lane for this request alone.

        Args:
            any_model: whether the key's own list of models is left aside: a route's shadow is its owner's choice.

        Raises:
            Refusal: when the decision lets no candidate answer.
        """
        snapshot = self._snapshot
        if not any_model:
            _check_models(key, request)
        admission = admit(snapshot, consumer, request, findings)
        route = snapshot.routes.get(request.model) if admission.route is not None else None
        lane = Lane(self._settings, snapshot, request.face, request.model, key, consumer, route)
        for candidate in admission.candidates:
            lane.options.append(Option(lane, candidate, self.place(candidate), self._paths[request.face], findings))
        lane.ready = [option for option in lane.options if option.candidate.target.ready]
        return lane

    def place(self, candidate: Candidate) -> Place | Spread:
        """Where a candidate answers; replicas share their places with all others that name the same sockets."""
        target = candidate.target
        if len(target.sockets) < 2:
            return self._place(target.url, target.socket)
        spread = self._spreads.get(target.sockets)
        if spread is None:
            spread = self._spreads[target.sockets] = Spread([self._place(None, socket) for socket in target.sockets])
        return spread

    def _place(self, url: str | None, socket: str | None) -> Place:
        where = (url, socket)
        found = self._places.get(where)
        if found is None:
            found = self._places[where] = Place(url, socket, self._egress)
        return found


def _check_models(key: Key, request: Request) -> None:
    if not key.allows(request.model):
        raise Refusal(
            404,
            "model_not_found",
            f"The model {request.model!r} is not served here or not for this key; GET /v1/models lists what it may "
            "call.",
            param="model",
        )


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in ip_network(network) for network in networks)
    except ValueError:
        return False


def headers_of(lane: Lane, candidate: Candidate) -> dict[str, str]:
    """What the answer's headers tell: who answered, and why."""
    target = candidate.target
    if lane.route is not None:
        why = candidate.why or f"route {lane.route.name}: decision and data class allow"
    else:
        why = candidate.why or f"asked for; verdict {candidate.ruling.verdict}"
    if rules := candidate.ruling.rules:
        why += f"; allowed by rule {', '.join(rules)}"
    found = {"x-ecotone-backend": target.backend, "x-ecotone-model": candidate.name, "x-ecotone-reason": why}
    found["x-ecotone-provenance"] = ", ".join(
        f"{name}={_quoted(text)}" for name, text in {"model": candidate.name, **provenance(candidate)}.items()
    )
    if candidate.ruling.warning is not None:
        found["x-ecotone-warning"] = candidate.ruling.warning
    return found


def provenance(candidate: Candidate) -> dict[str, str]:
    """What made an answer beside the model's name: the revision of weights and an adapter's base, or the entry of the
    knowledge base under which a provider answers."""
    target = candidate.target
    told = {"revision": target.revision, "base": target.base, "terms": target.terms}
    return {name: text for name, text in told.items() if text}


def _quoted(text: str) -> str:
    """A string of a structured header (RFC 9651, section 3.3.3)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def header_block(headers: dict[str, str]) -> bytes:
    """Header lines; no control character gets into one."""
    return b"".join(
        b"%b: %b\r\n" % (name.encode("latin-1"), text.translate(_NO_CONTROL).encode("latin-1", "replace"))
        for name, text in headers.items()
    )


def record_of(lane: Lane, candidate: Candidate, findings: Findings) -> bytes:
    """The part of an opened record that does not change from call to call."""
    target, ruling = candidate.target, candidate.ruling
    told: dict[str, Any] = {
        "project": lane.consumer.name,
        "key": lane.key.id,
        "face": lane.face,
        "asked": lane.asked,
        "route": lane.route.name if lane.route else None,
        "model": candidate.name,
        "backend": target.backend,
        "location": target.location,
        "revision": target.revision,
        "legal_class": target.legal,
        "knowledge_base": ruling.knowledge_base,
        "ruling": id_of(ruling_content(candidate)),
        "data_class": findings.data_class if lane.consumer.scan else None,
        "kinds": findings.kinds,
        "pseudonymised": candidate.masked,
        "why": candidate.why or None,
        **provenance(candidate),
    }
    return msgspec.json.encode(told)[1:-1]


def ruling_content(candidate: Candidate) -> bytes:
    """The decision as a record of its own; the subject's name is not in it."""
    ruling = candidate.ruling
    return msgspec.json.encode(
        {
            "verdict": ruling.verdict,
            "message": ruling.message,
            "reasons": ruling.reasons,
            "duties": ruling.duties,
            "rules": ruling.rules,
            "knowledge_base": ruling.knowledge_base,
        }
    )


def party_of(project: str) -> str:
    """By which engines of ours tell projects apart, and nothing else."""
    return hashlib.sha256(project.encode()).hexdigest()[:16]


def _head(place: Place | Spread, path: str, key: str, target: Target, model: str, party: str) -> bytes:
    """The head of requests to a candidate, up to the value of Content-Length."""
    path, named = place.path + "/" + path, key and f"authorization: Bearer {key}"
    if target.dialect == AZURE:
        named = key and f"api-key: {key}"
        if not place.path.endswith("/v1"):
            deployment = quote(model, safe="")
            path = f"{place.path}/openai/deployments/{deployment}{path[len(place.path) :]}?api-version={AZURE_VERSION}"
    lines = [f"POST {path} HTTP/1.1", f"host: {place.authority}"]
    if named:
        lines.append(named)
    if party:
        lines.append(f"x-ecotone-party: {party}")
    lines += [
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        "user-agent: ecotone",
        "content-length: ",
    ]
    return "\r\n".join(lines).encode("latin-1", "replace")

"""The settings of one Ecotone installation, read from the environment once and passed on as a frozen value.

Each field names its environment variable `ECOTONE_<FIELD>` and its meaning; `docs/settings.md` is checked against them.
"""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from ecotone.settings.egress import Egress, exempts_of, proxy_of
from ecotone.vocabulary import Invalid

MIB = 1024 * 1024
LOG_LEVELS = ("debug", "info", "warning", "error")
METRICS_READERS = ("", "loopback", "anyone", "nobody")
_SHORTEST_SECRET = 32
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")


def _option(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


def _secret(default: Any, doc: str) -> Any:
    """An option that holds a secret, or may: it is shown nowhere."""
    return field(default=default, metadata={"doc": doc}, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a server.

    Raises:
        Invalid: by `from_environment`, naming the variable, what it held and what is expected.
    """

    data: Path = _option(Path("data"), "folder for database, objects, ledger, logs and secrets; made when absent")
    host: str = _option("127.0.0.1", "address to listen on; anything but loopback needs accounts for reading")
    port: int = _option(7070, "TCP port to listen on")
    database_url: str = _secret("", "SQLAlchemy URL; default is SQLite in the data folder")
    objects: str = _option("", "where objects lie, s3://BUCKET/PREFIX; default is the data folder")
    s3_endpoint: str = _option("", "address of the S3-compatible store, http(s)://HOST:PORT; default is Amazon's")
    s3_public_endpoint: str = _option(
        "", "address under which clients reach the store; then they load from it directly, by signed addresses"
    )
    s3_region: str = _option("", "region of the store; default is AWS_REGION, else us-east-1")
    s3_bucket_in_host: bool = _option(False, "the bucket's name stands in the host name of the store, not in the path")
    s3_timeout: float = _option(60.0, "seconds for one request to the store")
    admin_token: str | None = _secret(None, "sets the first administrator's token; default is a random one in a file")
    anonymous_read: bool | None = _option(None, "reading without an account; default: only while bound to loopback")
    public_url: str | None = _option(None, "the address clients use, when behind a proxy, e.g. https://hub.example.org")
    allowed_hosts: str = _option("", "host names accepted in the Host header, comma-separated, beside our own")
    single_person_waivers: bool = _option(
        False, "waivers, agreements and concluded licences hold without a second administrator's approval"
    )
    provider_keys: str = _option(
        "*_API_KEY,*_PROVIDER_KEY", "patterns of environment variables that may hold a provider's key, comma-separated"
    )
    engine_wait: float = _option(60.0, "seconds a request waits for an engine that is starting")
    vllm: str = _option("vllm", "vLLM's command, or its path in an environment of its own")
    ray_address: str = _option(
        "",
        "Ray cluster for deployments of kind ray: HOST:PORT or auto on one of its machines, ray://HOST:10001 elsewhere",
    )
    ray_serve_url: str = _option(
        "",
        "where Ray Serve answers HTTP, as this server reaches it; if empty, port 8000 of 127.0.0.1 or that host",
    )
    engine_start: float = _option(240.0, "seconds an engine may take to load its model")
    engine_idle: float = _option(
        0.0, "seconds without a call after which an engine is unloaded, where its deployment does not say; 0 never"
    )
    engine_memory: int = _option(0, "bytes of memory that all engines may have; 0: four fifths of the machine's")
    snapshot_max_age: float = _option(900.0, "seconds a gateway serves its last snapshot without contact")
    max_request_bytes: int = _option(32 * MIB, "largest JSON body the gateway takes")
    max_answer_bytes: int = _option(16 * MIB, "largest answer of a provider or engine that is not streamed")
    max_commit_bytes: int = _option(512 * MIB, "largest commit body (NDJSON with small files) the hub takes")
    max_object_bytes: int = _option(200 * 1024 * MIB, "largest single file the hub takes")
    clone_workers: int = _option(4, "reads by git (clone, fetch) that are served at the same time")
    clone_seconds: float = _option(900.0, "seconds that one read by git may take")
    clone_memory_bytes: int = _option(1024 * MIB, "address space that git may use for one read")
    clone_cache_bytes: int = _option(10 * 1024 * MIB, "size of the cache of bare repositories that git reads from")
    upload_form_bytes: int = _option(32 * MIB, "all files of one upload from the browser")
    upload_form_files: int = _option(50, "files of one upload from the browser")
    upstream_connect: float = _option(10.0, "seconds to connect to a provider or engine")
    upstream_first: float = _option(120.0, "seconds until the first byte of a provider's answer")
    stream_hold: float = _option(
        10.0, "seconds for which a stream waits for its first event before it begins without one"
    )
    upstream_idle: float = _option(300.0, "seconds a provider's stream may be silent")
    upstream_proxy: str = _secret(
        "",
        "HTTP proxy by which calls to providers leave, http(s)://[USER:PASSWORD@]HOST:PORT; a password in it is a "
        "secret. Default: none, whatever HTTPS_PROXY says",
    )
    upstream_direct: str = _option(
        "",
        "what is called without that proxy, as in NO_PROXY: names with all below them, addresses, networks, NAME:PORT, "
        "or *; comma-separated, e.g. models.internal,10.0.0.0/8. Loopback and private addresses always are",
    )
    cache_bytes: int = _option(64 * MIB, "memory for answers that routes keep, in each process of the gateway")
    max_completion: int = _option(4096, "completion tokens reserved for an answer whose length nobody limits")
    backend_rest: float = _option(5.0, "seconds a route leaves a failing backend alone")
    rate_limit: str = _option(
        "",
        "most requests of one caller to the hub's API, and as many for files, e.g. `1000 per 5 minutes`; default: none",
    )
    materialised_bytes: int = _option(50 * 1024 * MIB, "size of the cache of whole files for engines, audits, tuning")
    job_workers: int = _option(1, "jobs (tuning runs, audits, upkeep of the store) that run at the same time")
    webhook_allow: str = _option(
        "", "hosts and networks inside that webhooks may reach, comma-separated, e.g. ci.internal,10.1.0.0/16"
    )
    request_allow: str = _option(
        "", "hosts and networks inside that addresses of pictures and files in requests may lead to, comma-separated"
    )
    webhook_pause: float = _option(
        60.0, "seconds until a webhook's failed delivery is tried again; the next pauses are 4, 15 and 40 times that"
    )
    otlp_endpoint: str = _option(
        "", "address of an OpenTelemetry collector (OTLP over HTTP), e.g. http://127.0.0.1:4318; default: no traces"
    )
    otlp_headers: str = _option(
        "", "headers for the collector, NAME=VALUE, comma-separated, e.g. authorization=Bearer%20TOKEN"
    )
    traces_share: float = _option(0.1, "share of requests whose traces are sent, 0 to 1; those that failed always are")
    ledger_segment_bytes: int = _option(64 * MIB, "size at which a ledger segment is closed and the next begun")
    ledger_full: str = _option(
        "refuse", "what happens while the ledger's disk is full: refuse (requests and changes), or spill"
    )
    ledger_spill: str = _option(
        "", "folder on another disk that takes the records meanwhile; leave it set until it is empty"
    )
    ledger_keep_days: float = _option(
        0.0, "days after which closed segments that were exported are removed; 0 keeps them"
    )
    usage_seconds: float = _option(5.0, "seconds between updates of the usage tables from the ledger")
    checkpoint_seconds: float = _option(10.0, "seconds between signed checkpoints of the ledger")
    stop_seconds: float = _option(15.0, "seconds that running requests get when the server is told to stop")
    drain_seconds: float = _option(600.0, "seconds that running transfers get at a graceful restart; then they are cut")
    body_seconds: float = _option(60.0, "seconds over which the rate of a request's body is taken, the first too")
    body_rate: int = _option(1024, "bytes a second that a body must bring on average over ECOTONE_BODY_SECONDS")
    stalled_seconds: float = _option(120.0, "seconds a client may take no byte of an answer that waits for it")
    connections_per_address: int = _option(0, "most connections of one address at a time; 0 is no bound")
    receiving_bytes: int = _option(256 * MIB, "memory that all uploads together may gather before they go to disk")
    trusted_proxies: str = _option(
        "",
        "addresses or networks whose X-Forwarded-For, -Proto and -Host are believed, comma-separated, "
        "e.g. 127.0.0.1,10.0.0.0/8",
    )
    metrics_read: str = _option(
        "",
        "who reads /metrics beside administrators: loopback, anyone or nobody; default loopback, nobody behind a proxy",
    )
    collect_seconds: float = _option(86_400.0, "seconds between garbage collections of the store; 0 never")
    collect_grace: float = _option(604_800.0, "seconds for which garbage collection leaves what nobody names yet")
    collect_delay: float = _option(
        3600.0, "seconds between condemning an object and removing it; longer than a commit takes"
    )
    convert: bool = _option(False, "turn whole files that came by LFS into Xet files at each garbage collection")
    convert_soon: int = _option(
        32 * 1024 * 1024,
        "bytes; whole files up to this size become Xet files right after they came, so that clients can copy them "
        "between repositories; 0: none",
    )
    log_level: str = _option("info", "debug, info, warning or error")
    tls_cert: str = _option("", "PEM file with the server's certificate and its chain; then it speaks TLS alone")
    tls_key: str = _option("", "PEM file with the certificate's key; default is the certificate's own file")
    cors_origins: str = _option(
        "", "origins whose pages may call the gateway, comma-separated, e.g. https://app.example; * is any"
    )
    snapshot_url: str = _option(
        "", "address of the server whose decisions a gateway on another machine follows, e.g. https://hub.example"
    )
    snapshot_secret: str = _secret(
        "", "what server and gateways on other machines share, at least 32 letters; opens and seals the decisions"
    )

    limits_url: str = _secret(
        "",
        "Redis by which servers and gateways share budgets, rates and slots, e.g. redis://10.0.0.5:6379/0, rediss:// "
        "or unix://; a password in it is a secret. Default: each server counts alone, and so do a gateway's workers",
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Settings from `ECOTONE_*` variables; keyword arguments that are not None win over them."""
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for option in options():
            raw = source.get(option.variable)
            if raw is not None and raw != "":
                values[option.name] = option.parse(raw)
        values |= {name: value for name, value in overrides.items() if value is not None}
        if "data" in values:
            values["data"] = Path(values["data"]).expanduser().absolute()
        else:
            values["data"] = Path("data").absolute()
        found = cls(**values)
        found.check()
        return found

    def check(self) -> None:
        """Raises Invalid, naming the variable, for a value that no server can run with."""
        if not 0 < self.port < 65536:
            raise Invalid(f"ECOTONE_PORT is {self.port}, but a port is from 1 to 65535.", param="ECOTONE_PORT")
        if self.log_level.lower() not in LOG_LEVELS:
            raise Invalid(
                f"ECOTONE_LOG_LEVEL is {self.log_level!r}, but {', '.join(LOG_LEVELS)} is expected.",
                param="ECOTONE_LOG_LEVEL",
            )
        if self.metrics_read not in METRICS_READERS:
            raise Invalid(
                f"ECOTONE_METRICS_READ is {self.metrics_read!r}, but loopback, anyone or nobody is expected.",
                param="ECOTONE_METRICS_READ",
            )
        if not 0 <= self.traces_share <= 1:
            raise Invalid(
                f"ECOTONE_TRACES_SHARE is {self.traces_share:g}, but a share from 0 to 1 is expected.",
                param="ECOTONE_TRACES_SHARE",
            )
        _ = self.proxies, self.origins, self.egress  # raise for what is no network, no origin and no proxy
        self._check_ledger()
        if self.tls_key and not self.tls_cert:
            raise Invalid("ECOTONE_TLS_KEY is set without ECOTONE_TLS_CERT; set both.", param="ECOTONE_TLS_CERT")
        if (self.snapshot_secret or self.snapshot_url) and len(self.snapshot_secret) < _SHORTEST_SECRET:
            raise Invalid(
                f"ECOTONE_SNAPSHOT_SECRET has {len(self.snapshot_secret)} letters; at least {_SHORTEST_SECRET} are "
                "expected, the same at the server and its gateways, e.g. from `openssl rand -hex 32`.",
                param="ECOTONE_SNAPSHOT_SECRET",
            )
        if self.limits_url and not self.limits_url.startswith(("redis://", "rediss://", "unix://")):
            raise Invalid(
                "ECOTONE_LIMITS_URL is no address of a Redis; one is expected that begins with redis://, rediss:// or "
                "unix://, e.g. redis://10.0.0.5:6379/0.",
                param="ECOTONE_LIMITS_URL",
            )
        if self.snapshot_url and not self.snapshot_url.startswith(("http://", "https://")):
            raise Invalid(
                "ECOTONE_SNAPSHOT_URL is no address; the server's is expected, e.g. https://hub.example.",
                param="ECOTONE_SNAPSHOT_URL",
            )
        for name in ("stop_seconds", "drain_seconds", "body_seconds", "stalled_seconds"):
            if not 0 < getattr(self, name) < 1e6:
                variable = f"ECOTONE_{name.upper()}"
                raise Invalid(f"{variable} is {getattr(self, name):g}; seconds above 0 are expected.", param=variable)

    def _check_ledger(self) -> None:
        if self.ledger_full not in ("refuse", "spill"):
            raise Invalid(
                f"ECOTONE_LEDGER_FULL is {self.ledger_full!r}, but refuse or spill is expected.",
                param="ECOTONE_LEDGER_FULL",
            )
        if self.ledger_full == "spill" and not self.ledger_spill:
            raise Invalid(
                "ECOTONE_LEDGER_FULL is spill, and ECOTONE_LEDGER_SPILL names no folder; name one on another disk.",
                param="ECOTONE_LEDGER_SPILL",
            )
        if self.ledger_keep_days != 0 and not 1 <= self.ledger_keep_days < 1e6:
            raise Invalid(
                f"ECOTONE_LEDGER_KEEP_DAYS is {self.ledger_keep_days:g}; 0, or days from 1 on, are expected.",
                param="ECOTONE_LEDGER_KEEP_DAYS",
            )
        if not 0 < self.usage_seconds < 1e6:
            raise Invalid(
                f"ECOTONE_USAGE_SECONDS is {self.usage_seconds:g}; seconds above 0 are expected.",
                param="ECOTONE_USAGE_SECONDS",
            )

    @property
    def spill(self) -> Path | None:
        """The second folder of the ledger; None when there is none."""
        return Path(self.ledger_spill).expanduser().absolute() if self.ledger_spill else None

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of trusted proxies. Raises Invalid for what is no address and no network."""
        try:
            return tuple(ip_network(p.strip(), strict=False) for p in self.trusted_proxies.split(",") if p.strip())
        except ValueError as error:
            raise Invalid(
                f"ECOTONE_TRUSTED_PROXIES: {error}; addresses or networks are expected, e.g. 10.0.0.0/8.",
                param="ECOTONE_TRUSTED_PROXIES",
            ) from None

    @property
    def egress(self) -> Egress:
        """How calls to providers leave. Raises Invalid, without what the proxy's address holds."""
        try:
            proxy = proxy_of(self.upstream_proxy) if self.upstream_proxy else None
        except ValueError as error:
            raise Invalid(
                f"ECOTONE_UPSTREAM_PROXY: {error}; http://HOST:PORT or https://HOST:PORT is expected, with "
                "USER:PASSWORD@ before the host where it asks for them, special characters as %XX.",
                param="ECOTONE_UPSTREAM_PROXY",
            ) from None
        try:
            return Egress(proxy, exempts_of(self.upstream_direct))
        except ValueError as error:
            raise Invalid(
                f"ECOTONE_UPSTREAM_DIRECT: {error}; names, addresses or networks are expected, with :PORT behind a "
                "name or an address where only that is meant, e.g. models.internal,10.0.0.0/8.",
                param="ECOTONE_UPSTREAM_DIRECT",
            ) from None

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins whose pages may call the gateway. Raises Invalid for what no browser sends as an origin."""
        found = tuple(o.strip().lower() for o in self.cors_origins.split(",") if o.strip())
        for origin in found:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise Invalid(
                    f"ECOTONE_CORS_ORIGINS: {origin!r} is no origin; scheme and host are expected, with a port where "
                    "there is one and without a path, e.g. https://app.example.",
                    param="ECOTONE_CORS_ORIGINS",
                )
        return found

    @property
    def metrics_readers(self) -> str:
        """loopback, anyone or nobody. Behind a proxy every caller may seem to come from loopback."""
        return self.metrics_read or ("nobody" if self.public_url else "loopback")

    @property
    def anonymous_may_read(self) -> bool:
        return self.is_loopback if self.anonymous_read is None else self.anonymous_read

    @property
    def base_url(self) -> str:
        """The address under which clients reach the server, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "localhost") else self.host  # noqa: S104
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    @property
    def sql_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data / 'ecotone.db'}"

    @property
    def provider_key_patterns(self) -> tuple[str, ...]:
        return tuple(p.strip() for p in self.provider_keys.split(",") if p.strip())

    def folder(self, name: str) -> Path:
        """A subfolder of the data folder, made (readable by the owner alone) when absent."""
        path = self.data / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def secret(self, name: str, length: int = 32) -> bytes:
        """A random secret of this installation, kept in `secrets/<name>`, made once; readable by the owner alone."""
        path = self.folder("secrets") / name
        for _ in range(2):
            try:
                found = path.read_bytes()
            except FileNotFoundError:
                found = b""
            if len(found) >= length:
                return found
            made = secrets.token_bytes(length)
            draft = path.with_name(f".{name}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            try:
                draft.replace(path) if found else os.link(draft, path)
            except FileExistsError:  # another process made it first: read that one
                continue
            finally:
                draft.unlink(missing_ok=True)
            return made
        return path.read_bytes()


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as documented: field name, environment variable, type name, default, meaning."""

    name: str
    variable: str
    kind: str
    default: Any
    doc: str

    def parse(self, raw: str) -> Any:
        try:
            if self.kind == "bool":
                return _BOOLEANS[raw.strip().lower()]
            if self.kind == "int":
                return int(raw)
            if self.kind == "float":
                return float(raw)
        except (ValueError, KeyError):
            expected = "1 or 0" if self.kind == "bool" else f"a number ({self.kind})"
            raise Invalid(
                f"{self.variable} is {raw!r}, but {expected} is expected; set it right or leave it out.",
                param=self.variable,
            ) from None
        return raw


_OF_OTHERS = ("ECOTONE_URL", "ECOTONE_TOKEN", "ECOTONE_SCANCODE_PYTHON", "ECOTONE_TEST_*", "*_KEY")
_FOR_ALL = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def strangers(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting of the server and is none, so that no typo goes unseen,
    and for a proxy that is set for all programs: calls to providers do not take it."""
    known = {option.variable for option in options()}
    said = []
    for name in sorted(name for name in environ if name.startswith("ECOTONE_") and name not in known):
        if any(fnmatchcase(name, pattern) for pattern in _OF_OTHERS):
            continue
        near = get_close_matches(name, known, n=1, cutoff=0.8)
        said.append(f"{name} is no setting and has no effect" + (f"; is {near[0]} meant?" if near else "."))
    general = next((name for name in _FOR_ALL if environ.get(name)), None)
    if general is not None and environ.get("ECOTONE_UPSTREAM_PROXY") is None:
        said.append(f"{general} has no effect on calls to providers; if they need a proxy, set ECOTONE_UPSTREAM_PROXY.")
    return said


def options() -> tuple[Option, ...]:
    """Every setting in order of declaration."""
    found = []
    for item in fields(Settings):
        kind = next((k for k in ("bool", "int", "float", "Path") if k in str(item.type)), "text")
        found.append(Option(item.name, f"ECOTONE_{item.name.upper()}", kind, item.default, item.metadata["doc"]))
    return tuple(found)

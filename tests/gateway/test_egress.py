"""Calls to providers through an HTTP proxy, where an organisation lets none out without: who takes it, who never does,
what is told when it fails, and that its password is nowhere."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
import uvloop

from ecotone.gateway.plane.upstreams import Place, Unreachable
from ecotone.settings import Settings, strangers
from ecotone.vocabulary import Invalid
from tests.app.certificates import Authority
from tests.app.gateways import Gateways
from tests.gateway.conftest import Provider, route, snapshot
from tests.gateway.proxies import ConnectProxy
from tests.gateway.wires import ANSWER, Wire, whole
from tests.receiver import until
from tests.running import ECOTONE, clean_environment, contents, free_port, running

HOST = "api.provider.example"
PASSWORD = "pass/word@of:the#proxy"
QUOTED = "us%65r:pass%2Fword%40of%3Athe%23proxy"
HIDDEN = (PASSWORD, QUOTED, "dXNlcjpwYXNz", "word%40of")
"""What must be nowhere: the password as it is, as it stands in the address, and as it is sent."""
SMALL = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


class Told:
    """What an answer was."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []

    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None: ...

    def answer_data(self, parts: list[bytes], ended: bool) -> None:
        self._parts += parts
        if ended:
            self.done.set_result(b"".join(self._parts))

    def answer_whole(self, headers: dict[bytes, bytes], body: bytes, now: float) -> None:
        self.done.set_result(body)

    def answer_lost(self, how: str, again: bool) -> None:
        self.done.set_exception(ConnectionError(how))

    def broke(self, error: Exception) -> None:
        self.done.set_exception(error)


def place(url: str, proxy: str, direct: str = "") -> Place:
    return Place(url, None, Settings(upstream_proxy=proxy, upstream_direct=direct).egress)


async def asked(where: Place, times: int = 1) -> bytes:
    """Calls one after another, as the gateway makes them: by a connection that waits, else by a new one."""
    body = b""
    for _ in range(times):
        told = Told()
        (where.take() or await where.connect(60)).send(told, SMALL)
        body = await told.done
        await asyncio.sleep(0)
    return body


def server_tls(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> ssl.SSLContext:
    """For names that this process trusts."""
    authority = Authority(folder)
    authority.issue(folder / "cert.pem", folder / "key.pem", *names)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def unknown(*_: Any, **__: Any) -> Any:
    """As a name server tells of a name that is none, where it answers."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def answers(s: socket.socket, _: int) -> bool:
    s.sendall(whole(ANSWER))
    return True


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("by_tls", [False, True], ids=["http proxy", "https proxy"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_provider_is_called_through_the_proxy_and_the_tunnel_serves_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Callable[[], Any], by_tls: bool, scheme: str
) -> None:
    context = server_tls(tmp_path, monkeypatch, HOST)
    wire = Wire(answers, context if scheme == "https" else None)
    proxy = ConnectProxy({f"{HOST}:8443": wire.port}, credentials=f"user:{PASSWORD}", tls=context if by_tls else None)
    where = place(f"{scheme}://{HOST}:8443/v1", proxy.url(QUOTED))

    async def calls() -> None:
        assert await asked(where, 3) in whole(ANSWER)
        where.close()
        end = time.monotonic() + 60
        while where.open and time.monotonic() < end:
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(calls())
    assert (proxy.asked, wire.requests, wire.connections, where.open) == ([f"{HOST}:8443"], 3, 1, 0)
    assert proxy.heads[0].startswith(f"CONNECT {HOST}:8443 HTTP/1.1\r\nhost: {HOST}:8443\r\n".encode())
    proxy.stop()
    wire.stop()


@pytest.mark.parametrize("by_tls", [False, True], ids=["http proxy", "https proxy"])
def test_a_provider_with_another_name_in_its_certificate_is_not_spoken_to_by_a_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_tls: bool
) -> None:
    """A proxy that leads elsewhere, or reads along, would otherwise get the provider's key."""
    context = server_tls(tmp_path, monkeypatch, "api.other.example")
    wire = Wire(answers, context)
    proxy = ConnectProxy({f"{HOST}:443": wire.port}, tls=context if by_tls else None)
    with pytest.raises(Unreachable, match=f"its certificate is not valid: Hostname mismatch.*{HOST}"):
        uvloop.run(asked(place(f"https://{HOST}/v1", proxy.url())))
    assert wire.requests == 0
    proxy.stop()
    wire.stop()


def test_a_proxy_whose_certificate_is_not_trusted_gets_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_tls(tmp_path, monkeypatch)
    monkeypatch.delenv("SSL_CERT_FILE")
    proxy = ConnectProxy({}, tls=context)
    with pytest.raises(Unreachable, match="the proxy's certificate is not valid") as refused:
        uvloop.run(asked(place(f"https://{HOST}/v1", proxy.url(QUOTED))))
    assert proxy.heads == [] and not any(hidden in str(refused.value) for hidden in HIDDEN)
    proxy.stop()


FAILURES = [
    (b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic\r\n\r\n", "the proxy asks for other credentials (407)"),
    (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 300\r\n\r\n<html>", "the proxy does not let it through (403)"),
    (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "the proxy cannot reach it (502)"),
    (b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n", "the proxy opens no tunnel (302)"),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "the proxy opens no tunnel (101)"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "the proxy did not answer in HTTP"),
    (b"HTTP/1.1 twohundred\r\n\r\n", "the proxy did not answer in HTTP"),
    (b"HTTP/1.1 200 OK\r\nx: y", "the proxy closed the connection"),
    (b"", "the proxy closed the connection"),
    (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "the proxy sent a head without end"),
    (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", "the proxy sent more than its answer"),
]


@pytest.mark.parametrize(("answer", "told"), FAILURES, ids=[told for _, told in FAILURES])
@pytest.mark.parametrize("by_tls", [False, True], ids=["http proxy", "https proxy"])
def test_a_proxy_that_opens_no_tunnel_is_told_apart_from_the_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, told: str, by_tls: bool
) -> None:
    context = server_tls(tmp_path, monkeypatch) if by_tls else None
    proxy = ConnectProxy(answer=answer, tls=context)
    where = place(f"https://{HOST}/v1", proxy.url(QUOTED))
    with pytest.raises(Unreachable) as refused:
        uvloop.run(asked(where))
    assert str(refused.value) == told and where.open == 0
    proxy.stop()


def test_a_proxy_that_is_down_or_silent_fails_in_the_time_for_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match=r"^the proxy cannot be reached: Connection refused$"):
        uvloop.run(asked(place(f"https://{HOST}/v1", f"http://{QUOTED}@127.0.0.1:{free_port()}")))
    with monkeypatch.context() as patched, pytest.raises(Unreachable, match=r"^the proxy cannot be reached: .*known$"):
        patched.setattr(socket, "getaddrinfo", unknown)
        asyncio.run(asked(place(f"https://{HOST}/v1", f"http://{QUOTED}@proxy.invalid:3128")))
    context = server_tls(tmp_path, monkeypatch)
    for answer, tls in ((b"HTTP/1.1 200 OK\r\n", None), (b"", context), (b"HTTP/1.1 200 OK\r\n\r\n", context)):
        silent = ConnectProxy(answer=answer, goes_on=True, tls=tls)
        where = place(f"https://{HOST}/v1", silent.url())
        for seconds in (0.4, 4.0, 20.0):  # a busy machine takes longer until the proxy has been asked, by TLS above all
            began = time.monotonic()
            with pytest.raises(Unreachable, match=r"^no connection through the proxy in time$"):
                uvloop.run(where.connect(seconds))
            assert time.monotonic() - began < seconds + 30 and where.open == 0
            if silent.asked:
                break
        assert set(silent.asked) == {f"{HOST}:443"}
        silent.stop()
    proxy = ConnectProxy()
    with pytest.raises(Unreachable, match=r"^the proxy asks for credentials \(407\)$"):
        proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        uvloop.run(asked(place(f"https://{HOST}/v1", proxy.url())))
    proxy.stop()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST.", "api.localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]",
     "\uff11\uff12\uff17.0.0.1"],
)  # fmt: skip
def test_what_is_on_this_machine_is_called_directly(host: str) -> None:
    """Through the proxy it would be the proxy's own loopback."""
    egress = Settings(upstream_proxy="http://proxy.invalid:3128").egress
    assert Place(f"http://{host}:8000/v1", None, egress)._tunnel is None
    if host in ("127.0.0.1", "localhost"):
        wire = Wire(answers)
        assert uvloop.run(asked(place(f"http://{host}:{wire.port}/v1", "http://proxy.invalid:3128")))
        wire.stop()


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "192.168.0.9", "172.16.5.5", "[fd12::7]", "100.64.0.1", "[::ffff:10.0.0.1]"]
)
def test_addresses_inside_are_called_directly(host: str) -> None:
    assert place(f"https://{host}/v1", "http://proxy.invalid:3128")._tunnel is None


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200", "\uff11\uff16\uff19.254.169.254",
     "0xa9fea9fe", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "169\u3002254\u3002169\u3002254"],
)  # fmt: skip
def test_metadata_addresses_are_not_asked_of_the_proxy_either(host: str) -> None:
    """A proxy in the cloud would hand out its own machine's credentials."""
    proxy = ConnectProxy({f"{host}:80": 1})
    with pytest.raises(Unreachable):
        uvloop.run(asked(place(f"http://{host}/v1", proxy.url())))
    assert proxy.asked == []
    proxy.stop()


def test_metadata_names_are_not_asked_of_the_proxy_either() -> None:
    egress = Settings(upstream_proxy="http://proxy.invalid:3128").egress
    assert egress.proxy_for("Metadata.Google.Internal.", 80) is None


@pytest.mark.parametrize(
    ("direct", "host", "port", "goes_directly"),
    [
        ("models.internal", "models.internal", 443, True),
        ("models.internal", "gpu1.MODELS.internal", 443, True),
        (".models.internal", "models.internal", 443, True),
        ("*.models.internal", "gpu1.models.internal.", 443, True),
        ("models.internal", "mymodels.internal", 443, False),
        ("models.internal", "models.internal.evil.example", 443, False),
        ("vllm", "vllm", 8000, True),
        ("a.example, models.internal:8443  b.example", "models.internal", 8443, True),
        ("a.example,models.internal:8443", "models.internal", 443, False),
        ("a.example b.example", "b.example", 443, True),
        ("8.8.0.0/16", "8.8.4.4", 443, True),
        ("8.8.0.0/16", "8.9.4.4", 443, False),
        ("8.8.0.0/16", "dns.example", 443, False),
        ("8.8.4.4:8443", "8.8.4.4", 8443, True),
        ("8.8.4.4:8443", "8.8.4.4", 443, False),
        ("2606:4700::/32", "2606:4700::1", 443, True),
        ("[2606:4700::1]:8443", "2606:4700::1", 8443, True),
        ("[2606:4700::1]:8443", "2606:4700::1", 443, False),
        ("8.8.4.4", "::ffff:8.8.4.4", 443, True),
        ("*", HOST, 443, True),
        ("*", "8.8.8.8", 443, True),
        ("", HOST, 443, False),
        ("", "8.8.8.8", 443, False),
    ],
)
def test_exceptions_are_read_as_operators_know_them_from_no_proxy(
    direct: str, host: str, port: int, goes_directly: bool
) -> None:
    egress = Settings(upstream_proxy="http://proxy.invalid:3128", upstream_direct=direct).egress
    assert (egress.proxy_for(host, port) is None) is goes_directly
    assert Settings(upstream_direct=direct).egress.proxy_for(host, port) is None


@pytest.mark.parametrize(
    "url",
    ["proxy.example:3128", "socks5://user:pw-x@proxy.example:1080", "http://", "http://user:pw-x@", "http://h:99999",
     "http://user:pw-x#y@proxy.example:3128", "http://user:pw-x/y@proxy.example:3128", "http://proxy.example:3128/pw-x",
     "http://proxy.example:3128?pw-x", "http://user:pw-x \u00e9@proxy.example:3128", "http://[::1:pw-x", "http://h:0",
     "http://user:pw-x@proxy.example:pw-x", "http://user:pw-x\r\nx: y@proxy.example:3128"],
)  # fmt: skip
def test_a_wrong_address_of_the_proxy_is_refused_at_the_start_without_its_password(url: str) -> None:
    with pytest.raises(
        Invalid, match=r"ECOTONE_UPSTREAM_PROXY: .* http://HOST:PORT or https://HOST:PORT is expec"
    ) as no:
        Settings.from_environment({"ECOTONE_UPSTREAM_PROXY": url})
    assert "pw-x" not in str(no.value) and no.value.__cause__ is None and no.value.__suppress_context__


@pytest.mark.parametrize(
    "entry", ["http://models.internal", "models.internal:0", "a..b", "10.0.0.0/33", "[x]:1", "b\u00fc"]
)
def test_a_wrong_exception_is_named_at_the_start(entry: str) -> None:
    """Passed over in silence it would send a call through the proxy that is meant to stay inside."""
    with pytest.raises(Invalid, match=r"ECOTONE_UPSTREAM_DIRECT: .* is no name, address or network"):
        Settings.from_environment({"ECOTONE_UPSTREAM_DIRECT": f"fine.example,{entry}"})


def test_a_proxy_for_all_programs_is_told_to_have_no_effect_on_providers() -> None:
    told = strangers({"HTTPS_PROXY": "http://user:pw-x@proxy.example:3128"})
    assert told == [
        "HTTPS_PROXY has no effect on calls to providers; if they need a proxy, set ECOTONE_UPSTREAM_PROXY."
    ]
    assert strangers({"https_proxy": "http://x:1", "ECOTONE_UPSTREAM_PROXY": ""}) == []


# -- the gateway as it is started --------------------------------------------------------------------------------------
class House:
    """`ecotone gateway` behind a proxy that wants credentials; its provider, by TLS, and one on loopback."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.provider, self.near = Provider(server_tls(folder, monkeypatch, HOST)), Provider()
        self.proxy = ConnectProxy({f"{HOST}:443": self.provider.server.server_port}, credentials=f"user:{PASSWORD}")
        found = snapshot(self.near, 1)
        fake = msgspec.structs.replace(found.backends["fake"], url=f"https://{HOST}/v1")
        far = msgspec.structs.replace(fake, name="far", backend="far", url="https://api.nowhere.example/v1")
        self.snapshot = msgspec.structs.replace(
            found,
            backends={"fake": fake, "far": far},
            routes={"rescue": route("rescue", "far/gpt-test", "fake/gpt-test")},
        )

    def stop(self) -> None:
        for each in (self.proxy, self.provider, self.near):
            each.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Gateways]]:
    folder = tmp_path_factory.mktemp("egress")
    with pytest.MonkeyPatch.context() as patched:
        made = House(folder, patched)
        settings = {
            "ECOTONE_UPSTREAM_PROXY": made.proxy.url(QUOTED),
            "ECOTONE_LOG_LEVEL": "debug",
            "SSL_CERT_FILE": str(folder / "authority.pem"),
        }
        tree = Gateways(folder / "gateway", workers=1, **settings)
        tree.place(made.snapshot)
        try:
            tree.start()
            yield made, tree
        finally:
            tree.stop()
    made.stop()


def client(tree: Gateways) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{tree.url}/v1", api_key="eck_shop", max_retries=0, timeout=60)


def said(tree: Gateways, model: str) -> str | None:
    with client(tree) as asking:
        messages: Any = [{"role": "user", "content": "Hello"}]
        return asking.chat.completions.create(model=model, messages=messages).choices[0].message.content


def test_openais_client_gets_answers_streams_and_the_list_of_models_through_the_proxy(
    house: tuple[House, Gateways],
) -> None:
    made, tree = house
    assert said(tree, "fake/gpt-test") == said(tree, "fake/gpt-test") == "You said: Hello"
    assert made.proxy.asked.count(f"{HOST}:443") == 1, "the tunnel is used again"
    assert made.provider.headers[-1]["authorization"] == "Bearer sk-upstream-secret"
    assert not any("proxy" in name for name in made.provider.headers[-1])
    with client(tree) as asking:
        messages: Any = [{"role": "user", "content": "Hello"}]
        stream = asking.chat.completions.create(model="fake/gpt-test", messages=messages, stream=True)
        parts = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
        assert len(parts) > 3 and "".join(filter(None, parts)) == "You said: Hello"
        # a list has three seconds to come
        until(lambda: "fake/gpt-test" in [model.id for model in asking.models.list()])
    assert made.proxy.carried > 500 and made.near.seen == []


def test_an_engine_on_loopback_is_called_beside_the_proxy(house: tuple[House, Gateways]) -> None:
    made, tree = house
    before = list(made.proxy.asked)
    assert said(tree, "demo/local") == "You said: Hello"
    assert made.proxy.asked == before and made.near.seen


def test_a_route_falls_back_when_the_proxy_reaches_its_first_backend_not(house: tuple[House, Gateways]) -> None:
    _, tree = house
    assert said(tree, "rescue") == "You said: Hello"


def test_the_proxys_password_is_in_no_answer_log_or_record(house: tuple[House, Gateways]) -> None:
    made, tree = house
    head = {"authorization": "Bearer eck_shop"}
    body = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}]}
    texts = []
    for number, (answer, told) in enumerate(FAILURES):
        made.proxy.answer = answer
        failed = httpx.post(f"{tree.url}/v1/chat/completions", json=body | {"model": f"far/x{number}"}, headers=head)
        assert failed.status_code == 502
        assert f"The backend far cannot be reached ({told})" in failed.text
        texts += [failed.text, str(failed.headers)]
    made.proxy.answer = None
    for path in ("/health", "/health/ready", "/metrics", "/v1/models"):
        texts.append(httpx.get(tree.url + path, headers=head).text)
    texts.append(tree.log)
    texts += [data.decode(errors="replace") for _, data in contents(tree.data)]
    assert not [hidden for hidden in HIDDEN for text in texts if hidden in text]
    assert PASSWORD not in repr(Settings(upstream_proxy=made.proxy.url(QUOTED)).egress)


def test_the_server_does_not_start_with_a_wrong_proxy_and_does_not_say_its_password(tmp_path: Path) -> None:
    env = clean_environment(ECOTONE_DATA=str(tmp_path), ECOTONE_UPSTREAM_PROXY="socks5://user:pw-x@proxy.example:1")
    done = subprocess.run([ECOTONE, "gateway"], env=env, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode != 0 and "ECOTONE_UPSTREAM_PROXY" in done.stderr and "pw-x" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_server_calls_providers_through_the_proxy_and_shows_its_password_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(answers, server_tls(tmp_path, monkeypatch, HOST))
    proxy = ConnectProxy({f"{HOST}:443": wire.port}, credentials=f"user:{PASSWORD}")
    settings = {"ECOTONE_UPSTREAM_PROXY": proxy.url(QUOTED), "ECOTONE_LOG_LEVEL": "debug", "FAR_API_KEY": "sk-far"}
    with running(tmp_path / "home", **settings) as server:
        for name, url in (("far", f"https://{HOST}/v1"), ("nowhere", "https://api.nowhere.example/v1")):
            server.told("backend", "add", name, "--url", url, "--key-env", "FAR_API_KEY")
        server.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        head = {"authorization": f"Bearer {server.told('key', 'create', '--project', 'shop')['key']}"}
        body = {"model": "far/gpt", "messages": [{"role": "user", "content": "Hello"}]}
        end = time.monotonic() + 120
        while (answer := httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=head)).status_code != 200:
            assert time.monotonic() < end, answer.text
            time.sleep(0.1)
        lost = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"model": "nowhere/gpt"}, headers=head)
        assert "The backend nowhere cannot be reached (the proxy cannot reach it (502))" in lost.text
        pages = ("/health/ready", "/metrics", "/ecotone/traffic", "/ecotone/requests", "/api/ecotone/v1/backends")
        shown = [server.http.get(path, follow_redirects=True) for path in pages]
        assert [page.status_code for page in shown] == [200] * len(pages)
        texts = [lost.text, *(page.text for page in shown)]
        for command in (["backend", "list"], ["why", lost.headers["x-request-id"]], ["usage"], ["ps"]):
            done = server.cli(*command)
            texts.append(done.stdout + done.stderr)
        texts += [data.decode(errors="replace") for _, data in contents(server.data)]
        texts.append(server.log)
    assert not [hidden for hidden in HIDDEN for text in texts if hidden in text]
    proxy.stop()
    wire.stop()


@pytest.mark.slow
def test_tinyproxy_carries_calls_and_its_refusals_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that others wrote; it finds the provider by another one, so that no name has to be resolved."""
    command = shutil.which("tinyproxy")
    if command is None:
        pytest.skip("tinyproxy is not installed")
    wire = Wire(answers, server_tls(tmp_path, monkeypatch, HOST))
    behind, port = ConnectProxy({f"{HOST}:443": wire.port}), free_port()
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 20", "BasicAuth user word", "ConnectPort 443"]
    lines += [f'Upstream http 127.0.0.1:{behind.port} ".provider.example"', "MaxClients 20"]
    (tmp_path / "tinyproxy.conf").write_text("\n".join([*lines, ""]))
    running = subprocess.Popen([command, "-d", "-c", tmp_path / "tinyproxy.conf"], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end, "tinyproxy does not answer"
                time.sleep(0.05)
        proxy = f"http://user:word@127.0.0.1:{port}"
        assert uvloop.run(asked(place(f"https://{HOST}/v1", proxy), 3)) in whole(ANSWER)
        assert (wire.requests, wire.connections, behind.asked) == (3, 1, [f"{HOST}:443"])
        for url, credentials, told in (
            (f"https://{HOST}/v1", "user:other", r"the proxy asks for other credentials \(401\)"),
            (f"https://{HOST}:8443/v1", "user:word", r"the proxy does not let it through \(403\)"),
        ):
            with pytest.raises(Unreachable, match=f"^{told}$"):
                uvloop.run(asked(place(url, f"http://{credentials}@127.0.0.1:{port}")))
    finally:
        running.terminate()
        running.wait(120)
    behind.stop()
    wire.stop()

"""Webhooks with the unmodified client and a real receiver: each change is told, in order, signed, to whom it may be."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from huggingface_hub import HfApi, WebhookWatchedItem
from huggingface_hub.errors import HfHubHTTPError

from ecotone.accounts import SYSTEM
from ecotone.catalog import Event, ToldComment, ToldDiscussion
from ecotone.database import utc_now
from ecotone.vocabulary import Invalid, Role
from ecotone.webhooks import MASK, Targets, services
from ecotone.webhooks import courier as carrying
from ecotone.webhooks.models import DeliveryRow
from tests.hub.test_wire import add, commit
from tests.receiver import Receiver, receiving, status, until

SECRET = "s3cret-of-the-receiver"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def courier(server: SimpleNamespace) -> Iterator[None]:
    """The task of the server process that delivers."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(server.services.courier.run())

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    loop.call_soon_threadsafe(task.cancel)
    thread.join(120)
    assert not thread.is_alive(), "the courier does not end"
    loop.close()


@pytest.fixture
def hook(server: SimpleNamespace, receiver: Receiver) -> Iterator[Callable[..., Any]]:
    """Makes a webhook of will's to the receiver."""
    will = HfApi(endpoint=server.url, token="ect_writer")
    made = []

    def create(*watched: str, url: str | None = None, **how: Any) -> Any:
        items = [WebhookWatchedItem(*one.split(":", 1)) for one in watched]
        made.append(will.create_webhook(url=url or receiver.url, watched=items, secret=SECRET, **how))
        return made[-1]

    yield create
    for one in made:
        with contextlib.suppress(HfHubHTTPError):
            will.delete_webhook(one.id)


def deliveries(server: SimpleNamespace, webhook_id: str) -> list[Any]:
    will = server.services.accounts.actor_for_token("ect_writer")
    found: list[Any] = server.services.webhooks.deliveries(webhook_id, actor=will)
    return found


def test_a_webhook_is_made_listed_changed_switched_and_deleted_and_its_secret_stays_inside(
    server: SimpleNamespace, as_admin: httpx.Client
) -> None:
    will = HfApi(endpoint=server.url, token="ect_writer")
    made = will.create_webhook(
        url="https://ci.example.org/hook?a=1", watched=[{"type": "user", "name": "will"}], secret=SECRET
    )
    assert (made.domains, made.secret, made.disabled) == (["repo", "discussion"], MASK, False)
    assert [w.id for w in will.list_webhooks()] == [made.id]
    assert will.get_webhook(made.id).watched == [WebhookWatchedItem("user", "will")]
    watched = [WebhookWatchedItem("model", "demo/x"), WebhookWatchedItem("org", "demo")]
    changed = will.update_webhook(made.id, url="https://ci.example.org/two", watched=watched, domains=["repo"])
    assert (changed.url, changed.watched, changed.domains) == ("https://ci.example.org/two", watched, ["repo"])
    assert will.update_webhook(made.id, secret=MASK).watched == watched, "what is not sent stays as it is"
    assert will.disable_webhook(made.id).disabled is True and will.get_webhook(made.id).disabled is True
    assert will.enable_webhook(made.id).disabled is False
    rita = HfApi(endpoint=server.url, token="ect_reader")
    for call in (
        rita.get_webhook,
        rita.delete_webhook,
        rita.enable_webhook,
        HfApi(server.url, "ect_admin").get_webhook,
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call(made.id)
        assert caught.value.response.status_code in (403, 404)
    seen = [as_admin.get(f"/api/settings/webhooks/{one}") for one in (made.id, "0" * 24)]
    assert seen[0].status_code == seen[1].status_code == 404
    assert seen[0].text.replace(made.id, "") == seen[1].text.replace("0" * 24, "")
    with server.services.database.reading() as session:
        kept = session.execute(sa.text("select secret from webhooks where id = :id"), {"id": made.id}).scalar()
    assert kept and SECRET not in kept
    will.delete_webhook(made.id)
    assert will.list_webhooks() == []


def test_the_commands_of_1_x_watch_discussions_by_their_own_word(server: SimpleNamespace) -> None:
    will = HfApi(endpoint=server.url, token="ect_writer")
    watched = [WebhookWatchedItem("user", "will")]
    made = will.create_webhook(url="https://ci.example.org/", watched=watched, domains=["discussions"])  # type: ignore[list-item]
    assert made.domains == ["discussion"]
    assert will.update_webhook(made.id, domains=["repo", "discussions"]).domains == ["repo", "discussion"]  # type: ignore[list-item]
    will.delete_webhook(made.id)


def test_each_kind_of_change_of_a_watched_repository_is_told_in_order_and_signed(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None
) -> None:
    name = f"told/model-{time.monotonic_ns()}"
    made = hook(f"model:{name}")
    as_admin.post("/api/repos/create", json={"name": name})
    first = as_admin.get(f"/api/models/{name}").json()["sha"]
    oid = commit(as_admin, name, add("a.txt")).json()["commitOid"]
    as_admin.post(f"/api/models/{name}/branch/dev", json={})
    as_admin.post(f"/api/models/{name}/tag/main", json={"tag": "v1"})
    as_admin.request("DELETE", f"/api/models/{name}/tag/v1")
    as_admin.put(f"/api/models/{name}/settings", json={"private": True, "gated": "manual"})
    as_admin.post("/api/repos/move", json={"fromRepo": name, "toRepo": name + "-new", "type": "model"})
    commit(as_admin, name + "-new", add("b.txt"))
    namespace, _, short = name.partition("/")
    as_admin.request("DELETE", "/api/repos/delete", json={"name": short + "-new", "organization": namespace})
    bodies = receiver.bodies(9)
    assert [(b["event"]["scope"], b["event"]["action"]) for b in bodies] == [
        ("repo", "create"), ("repo.content", "update"), ("repo.content", "update"), ("repo.content", "update"),
        ("repo.content", "update"), ("repo.config", "update"), ("repo", "move"), ("repo.content", "update"),
        ("repo", "delete"),
    ]  # fmt: skip
    assert [b["updatedRefs"] for b in bodies[1:5]] == [
        [{"ref": "refs/heads/main", "oldSha": first, "newSha": oid}],
        [{"ref": "refs/heads/dev", "oldSha": None, "newSha": oid}],
        [{"ref": "refs/tags/v1", "oldSha": None, "newSha": oid}],
        [{"ref": "refs/tags/v1", "oldSha": oid, "newSha": None}],
    ]
    assert bodies[1]["repo"] == {
        "id": bodies[0]["repo"]["id"],
        "type": "model",
        "name": name,
        "owner": {"id": "told"},
        "private": False,
        "tags": bodies[1]["repo"]["tags"],
        "url": {"web": f"{server.url}/{name}", "api": f"{server.url}/api/models/{name}"},
        "headSha": oid,
        "head_sha": oid,
    }
    assert bodies[5]["updatedConfig"] == {"private": True, "gated": "manual"} and bodies[5]["repo"]["private"] is True
    assert (
        bodies[6]["movedTo"] == {"name": name + "-new", "owner": {"id": "told"}} and bodies[6]["repo"]["name"] == name
    )
    assert {b["webhook"]["id"] for b in bodies} == {made.id} and bodies[0]["webhook"]["version"] == 3
    receiver.check_signatures(SECRET)
    until(lambda: [d.state for d in deliveries(server, made.id)] == ["delivered"] * 9)


def test_the_clients_own_payload_model_reads_what_is_sent(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None
) -> None:
    pytest.importorskip("pydantic")
    from huggingface_hub import WebhookPayload

    name = f"told/parsed-{time.monotonic_ns()}"
    hook("org:told")
    as_admin.post("/api/repos/create", json={"name": name})
    model = server.services.catalog.model(name, viewer=SYSTEM)
    asked = ToldDiscussion(id="d" * 24, num=3, title="Why?", author="rita", status="open", is_pull_request=True)
    said = ToldComment(id="c" * 24, author="will", content="Because.")
    told = Event(action="create", scope="discussion.comment", model=model, actor="will", discussion=asked, comment=said)
    with server.services.database.writing() as session:
        server.services.catalog.events.tell(session, told)
    first, second = (WebhookPayload(**body) for body in receiver.bodies(2))
    assert first.repo.head_sha == model.head and first.event.scope == "repo"
    assert second.discussion and second.discussion.num == 3 and second.discussion.changes
    assert second.comment and second.comment.content == "Because." and second.repo.head_sha is None
    assert second.comment.url.web == f"{server.url}/{name}/discussions/3#{'c' * 24}"


def test_domains_and_watched_names_choose_what_is_told(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None
) -> None:
    stamp = time.monotonic_ns()
    hook(f"model:told/one-{stamp}", f"dataset:told/two-{stamp}")
    hook(f"model:told/one-{stamp}", domains=["discussion"])
    as_admin.post("/api/repos/create", json={"name": f"told/other-{stamp}"})
    as_admin.post("/api/repos/create", json={"name": f"told/two-{stamp}"})
    as_admin.post("/api/repos/create", json={"name": f"told/two-{stamp}", "type": "dataset"})
    as_admin.post("/api/repos/create", json={"name": f"told/one-{stamp}"})
    bodies = receiver.bodies(2)
    assert [(b["repo"]["type"], b["repo"]["name"]) for b in bodies] == [
        ("dataset", f"told/two-{stamp}"), ("model", f"told/one-{stamp}"),
    ]  # fmt: skip
    time.sleep(0.3)
    assert len(receiver.got) == 2


def test_whoever_has_no_token_any_more_is_told_nothing(
    server: SimpleNamespace, as_admin: httpx.Client, receiver: Receiver, courier: None
) -> None:
    info, secret = server.services.accounts.create_token("leaver2", Role.WRITE)
    leaver = HfApi(endpoint=server.url, token=secret)
    made = leaver.create_webhook(url=receiver.url, watched=[{"type": "org", "name": "told"}])
    as_admin.post("/api/repos/create", json={"name": f"told/a-{time.monotonic_ns()}", "private": True})
    assert receiver.bodies(1)[0]["repo"]["private"] is True
    receiver.answer = status(500)
    as_admin.post("/api/repos/create", json={"name": f"told/b-{time.monotonic_ns()}", "private": True})
    receiver.bodies(2)
    server.services.accounts.revoke_token(info.id)
    as_admin.post("/api/repos/create", json={"name": f"told/c-{time.monotonic_ns()}"})
    wanted = sa.select(DeliveryRow.state).where(DeliveryRow.body.contains(made.id)).order_by(DeliveryRow.key)

    def states() -> list[str]:
        with server.services.database.reading() as session:
            return list(session.scalars(wanted))

    until(lambda: states() == ["delivered", "given_up"])


def test_what_fails_is_tried_five_times_in_order_and_then_given_up(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(services, "PAUSES", (0.5, 1, 1.5, 2))  # of 0.1 seconds each
    name = f"told/fails-{time.monotonic_ns()}"
    made = hook(f"model:{name}")
    receiver.answer = status(503)
    as_admin.post("/api/repos/create", json={"name": name})
    commit(as_admin, name, add("a.txt"))
    scopes = [b["event"]["scope"] for b in receiver.bodies(10)]
    assert scopes == ["repo"] * 5 + ["repo.content"] * 5, "the second waits for the first"
    until(lambda: [d.state for d in deliveries(server, made.id)] == ["given_up"] * 2)
    ids = [headers["x-webhook-delivery"] for _, headers, _ in receiver.got]
    assert len(set(ids[:5])) == 1 and len(set(ids)) == 2, "a try again has the same id"
    assert deliveries(server, made.id)[0].problem == "the target answered 503"
    receiver.answer = status(204)
    commit(as_admin, name, add("b.txt"))
    until(lambda: deliveries(server, made.id)[0].state == "delivered")
    will = server.services.accounts.actor_for_token("ect_writer")
    assert server.services.webhooks.webhook(made.id, actor=will).failures == 0


def test_a_webhook_that_always_fails_is_switched_off_and_says_why(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(services, "PAUSES", ())
    monkeypatch.setattr(services, "MOST_FAILURES", 3)
    name = f"told/off-{time.monotonic_ns()}"
    made = hook(f"model:{name}")
    receiver.answer = status(410)
    as_admin.post("/api/repos/create", json={"name": name})
    for number in range(5):
        commit(as_admin, name, add(f"{number}.txt"))
    will = HfApi(endpoint=server.url, token="ect_writer")
    until(lambda: will.get_webhook(made.id).disabled)
    actor = server.services.accounts.actor_for_token("ect_writer")
    assert "3 deliveries in a row failed" in server.services.webhooks.webhook(made.id, actor=actor).why_disabled
    time.sleep(0.3)
    assert len(receiver.got) == 3
    commit(as_admin, name, add("more.txt"))
    assert len(deliveries(server, made.id)) <= 6
    will.enable_webhook(made.id)
    receiver.answer = status(200)
    commit(as_admin, name, add("again.txt"))
    assert receiver.bodies(4)[3]["event"]["scope"] == "repo.content"


def hundred_megabytes(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            handler.wfile.write(bytes(1_000_000))


def resets(handler: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    handler.connection.close()


def endless_head(handler: Any) -> None:
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100_000):
            handler.wfile.write(b"x: " + b"y" * 1000 + b"\r\n")


def never(handler: Any) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (hundred_megabytes, ""),
        (resets, "no answer"),
        (endless_head, "no answer"),
        (never, "no answer within"),
        (status(302, location="http://127.0.0.1:1/"), "redirects are not followed"),
    ],
)
def test_no_target_holds_the_courier_up_or_leads_it_elsewhere(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None,
    monkeypatch: pytest.MonkeyPatch, answer: Any, problem: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(services, "PAUSES", ())
    monkeypatch.setattr(carrying, "ANSWER_SECONDS", 4.0 if answer is never else 20.0)
    receiver.answer = answer
    name = f"told/odd-{time.monotonic_ns()}"
    made = hook(f"model:{name}")
    began = time.monotonic()
    as_admin.post("/api/repos/create", json={"name": name})
    until(lambda: deliveries(server, made.id)[0].state != "waiting")
    found = deliveries(server, made.id)[0]
    assert found.problem.startswith(problem) or problem in found.problem
    assert found.state == ("delivered" if not problem else "given_up")
    assert time.monotonic() - began < 60 and receiver.asked == []


def test_a_target_that_never_answers_holds_up_nobody_elses(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver, courier: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(carrying, "ANSWER_SECONDS", 90.0)
    name, over = f"told/busy-{time.monotonic_ns()}", threading.Event()
    with receiving() as dead:
        dead.answer = lambda _: over.wait(90) and None
        for _ in range(8):
            hook(f"model:{name}", url=dead.url)
        wanda = HfApi(endpoint=server.url, token="ect_other")
        other = wanda.create_webhook(url=receiver.url, watched=[{"type": "model", "name": name}])
        began = time.monotonic()
        as_admin.post("/api/repos/create", json={"name": name})
        receiver.bodies(1)
        assert time.monotonic() - began < 60  # where the dead ones say something after 90
        over.set()
        wanda.delete_webhook(other.id)


def test_a_day_has_a_thousand_deliveries_and_what_is_left_out_is_counted(
    server: SimpleNamespace, as_admin: httpx.Client, hook: Any, receiver: Receiver
) -> None:
    name = f"told/full-{time.monotonic_ns()}"
    made = hook(f"model:{name}")
    as_admin.post("/api/repos/create", json={"name": name})
    with server.services.database.writing() as session:
        one = session.scalars(sa.select(DeliveryRow).where(DeliveryRow.body.contains(made.id))).one()
        columns = {c.name: getattr(one, c.name) for c in DeliveryRow.__table__.columns if c.name not in ("key", "id")}
        more = [columns | {"id": f"{n:032x}{made.id}"[-32:] + "", "state": "delivered"} for n in range(999)]
        for number, row in enumerate(more):
            row["id"] = f"{made.id[:20]}{number:012d}"
        session.execute(sa.insert(DeliveryRow), more)
        one.state = "delivered"
    assert commit(as_admin, name, add("a.txt")).status_code == 200, "the change itself is never refused"
    actor = server.services.accounts.actor_for_token("ect_writer")
    assert server.services.webhooks.webhook(made.id, actor=actor).left_out == 1
    with server.services.database.writing() as session:
        old = sa.update(DeliveryRow).where(DeliveryRow.id.startswith(made.id[:20]))
        session.execute(old.values(created=utc_now() - timedelta(hours=25)))
    commit(as_admin, name, add("b.txt"))
    assert deliveries(server, made.id)[0].event == "repo.content update"
    with server.services.database.writing() as session:
        session.execute(sa.delete(DeliveryRow).where(DeliveryRow.body.contains(made.id)))


def test_a_change_that_is_undone_is_not_told(server: SimpleNamespace, as_admin: httpx.Client, hook: Any) -> None:
    name = f"told/undone-{time.monotonic_ns()}"
    made = hook(f"model:{name}")
    as_admin.post("/api/repos/create", json={"name": name})
    catalog = server.services.catalog
    model = catalog.model(name, viewer=SYSTEM)
    with pytest.raises(RuntimeError), server.services.database.writing() as session:
        catalog.events.tell(session, Event(action="update", scope="repo.config", model=model, actor="x"))
        raise RuntimeError
    assert [d.event for d in deliveries(server, made.id)] == ["repo create"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost./x", "http://[::1]/", "http://10.0.0.1/", "http://192.168.0.1/",
        "http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::a00:1]/", "http://0/",
        "http://0.0.0.0/", "http://2130706433/", "http://0x7f.1/", "http://017700000001/", "http://127.1/",
        "http://metadata.google.internal/", "http://[fe80::1]/", "http://１２７.0.0.1/", "http://127。0。0。1/",
        "ftp://example.org/", "https://user:pw@example.org/", "https://", "x", "http://a b/", "https://x.org:0/",
        "https://x.org/" + "a" * 600, "https://x.org/\r\nx: y", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_an_address_inside_is_refused_when_it_is_given_or_when_it_is_connected_to(url: str) -> None:
    """Without the setting that allows some, no spelling of an inner address is reached."""
    targets = Targets("")
    sent = one_try(targets)
    assert sent(url)[0] is None and sent(url)[1], url


def one_try(targets: Targets) -> Callable[[str], tuple[int | None, str]]:
    """One try of a delivery to a URL."""
    courier = carrying.Courier(SimpleNamespace(), targets)  # type: ignore[arg-type]

    def sent(url: str) -> tuple[int | None, str]:
        parcel = carrying.Parcel(
            key=1, id="1", webhook_id="1", webhook_key=1, user="u", url=url, body=b"{}", secret=None, attempts=0
        )
        return asyncio.run(courier._sent(parcel))

    return sent


def test_no_administrator_is_sent_to_allow_an_address_that_nothing_allows() -> None:
    """The setting opens inner networks and never cloud metadata: an error that names it there sends one in circles."""
    targets = Targets("0.0.0.0/0")
    for url in ("http://169.254.169.254/latest", "http://metadata.google.internal/", "http://[fe80::1]/"):
        with pytest.raises(Invalid, match="no webhook goes there"):
            targets.check_url(url)
    targets.check_url("http://10.0.0.1/")
    with pytest.raises(Invalid, match="ECOTONE_WEBHOOK_ALLOW"):
        Targets("").check_url("http://10.0.0.1/")


def test_a_name_that_leads_inside_is_not_connected_to_even_when_it_led_outside_before(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once for each delivery, and the connection is made to what was checked then."""
    asked = []
    real = socket.getaddrinfo

    def turning(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.example":
            return real(host, *args, **kwargs)
        asked.append(host)
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", turning)
    url = f"http://rebind.example:{receiver.port}/hook"
    status_, problem = one_try(Targets(""))(url)
    assert (status_, receiver.got) == (None, []) and "not on the public network" in problem and asked
    assert one_try(Targets("127.0.0.1"))(url) == (200, "")
    assert one_try(Targets("rebind.example"))(url) == (200, "")
    assert len(asked) == 3 and receiver.got[-1][1]["host"] == f"rebind.example:{receiver.port}"


def test_bad_webhooks_say_what_is_wrong(server: SimpleNamespace) -> None:
    watched = [{"type": "model", "name": "demo/x"}]
    good = {"url": "https://ci.example.org/", "watched": watched, "domains": ["repo"]}
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_writer"}) as will:
        for change in (
            {"url": "http://10.0.0.1/"},
            {"url": None},
            {"watched": []},
            {"watched": [{"type": "bucket", "name": "a/b"}]},
            {"watched": [{"type": "model", "name": "one-part"}]},
            {"watched": [{"type": "user", "name": "a/b"}]},
            {"watched": [{"type": "planet", "name": "mars"}]},
            {"watched": watched * 51},
            {"domains": []},
            {"domains": ["repos"]},
            {"secret": "two words"},
            {"secret": "x\r\ny: z"},
            {"secret": "x" * 300},
            {"jobSourceId": "job"},
        ):
            answer = will.post("/api/settings/webhooks", json=good | change)
            assert answer.status_code == 400 and answer.json()["error"], change
        assert will.post("/api/settings/webhooks", content=b"x" * 70_000).status_code == 413
    reader = {"authorization": "Bearer ect_reader"}
    assert httpx.post(f"{server.url}/api/settings/webhooks", json=good, headers=reader).status_code == 403
    assert httpx.get(f"{server.url}/api/settings/webhooks").status_code == 401


def test_a_name_server_that_never_answers_takes_none_of_the_servers_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, over = threading.Event(), threading.Event()

    def stuck(*_args: Any, **_kwargs: Any) -> Any:
        asked.set()
        over.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    monkeypatch.setattr(carrying, "ANSWER_SECONDS", 0.5)
    began = time.monotonic()
    assert one_try(Targets(""))("http://slow.example/") == (None, "no answer within 0.5 seconds")
    over.set()
    assert asked.is_set() and time.monotonic() - began < 45, "the loop ends without waiting for the look-up"

"""Keys, limits, budgets and routes as an operator sets them, and as the gateway's snapshot has them afterwards."""

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.accounts.patterns import fits, models_of_both, networks_of_both
from ecotone.api import PREFIX
from ecotone.gateway import snapshot as snapshots
from ecotone.gateway.budgets import began, read_budget, usd, written_budget
from ecotone.vocabulary import Invalid
from tests.gateway.conftest import Provider
from tests.running import ECOTONE, Running, contents, running

USE = ("--mode", "serve_api", "--purpose", "commercial")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("managing")) as found:
        told(found, "project", "create", "shop", *USE)
        yield found


def told(server: Running, *argv: str) -> str:
    """What a command prints; it must succeed."""
    done = server.cli(*argv)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def saved(server: Running, wanted: Any) -> snapshots.Snapshot:
    """The snapshot on disk, which other processes read, once it is as wanted: soon, on a busy machine later."""
    end = time.monotonic() + 90
    while True:
        found = snapshots.load(server.data / "snapshot")
        if wanted(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def sha(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_a_key_is_made_with_all_terms_by_command_and_the_gateway_knows_them(server: Running) -> None:
    secret = told(
        server,
        "key", "create", "--project", "shop", "--note", "checkout", "--expires", "30d", "--model", "openai/*",
        "--network", "10.0.0.0/8", "--network", "192.0.2.7", "--tag", "web", "--requests", "60", "--budget", "5USD/day",
    )  # fmt: skip
    found = saved(server, lambda s: sha(secret) in s.keys)
    key = found.keys[sha(secret)]
    assert (key.project, key.models, key.networks) == ("shop", ("openai/*",), ("10.0.0.0/8", "192.0.2.7/32"))
    assert key.tags == ("web",)
    assert abs(key.expires - (datetime.now(UTC) + timedelta(days=30)).timestamp()) < 600
    limit = found.limits[f"key:{key.id}"]
    assert limit.requests == 60 and [(b.limit, b.window) for b in limit.budgets] == [(5 * 10**12, "day")]


def test_a_rotated_key_keeps_its_id_and_both_secrets_until_the_overlap_ends(server: Running) -> None:
    first = told(server, "key", "create", "--project", "shop")
    key_id = saved(server, lambda s: sha(first) in s.keys).keys[sha(first)].id
    second = told(server, "key", "rotate", key_id, "--overlap", "24h")
    found = saved(server, lambda s: sha(second) in s.keys)
    assert found.keys[sha(first)].id == found.keys[sha(second)].id == key_id
    ends = found.keys[sha(first)].expires
    assert (
        abs(ends - (datetime.now(UTC) + timedelta(hours=24)).timestamp()) < 600 and found.keys[sha(second)].expires == 0
    )
    third = told(server, "key", "rotate", key_id)
    found = saved(server, lambda s: sha(third) in s.keys)
    now = datetime.now(UTC).timestamp()
    assert found.keys[sha(first)].expires <= now and found.keys[sha(second)].expires <= now, "a leaked secret lives on"
    told(server, "key", "revoke", key_id)
    gone = saved(server, lambda s: sha(third) not in s.keys)
    assert not {sha(first), sha(second)} & set(gone.keys)


@pytest.mark.parametrize("secret", ["sk-ab cd  ef with spaces between them", "pässwörter-ünd-schlüssel-äöü", "sk-1234"])
def test_a_key_from_elsewhere_is_imported_and_its_secret_is_nowhere_on_the_server(server: Running, secret: str) -> None:
    done = subprocess.run(
        [ECOTONE, "key", "import", "--project", "shop", "--note", "from the old gateway", "--json"],
        input=secret + "\n", capture_output=True, text=True, env=server.env, timeout=120, check=True,
    )  # fmt: skip
    made = json.loads(done.stdout)
    assert "key" not in made and ("warning" in done.stderr) == (len(secret) < 20)
    assert saved(server, lambda s: sha(secret) in s.keys).keys[sha(secret)].id == made["id"]
    assert secret not in done.stdout + done.stderr
    for file, data in contents(server.log_file, server.data):
        assert secret.encode() not in data, file
    again = server.http.post(PREFIX + "/keys", json={"project": "shop", "sha256": sha(secret)})
    assert again.status_code == 409
    told(server, "key", "revoke", made["id"])


def test_a_users_token_cannot_become_a_key(server: Running) -> None:
    answer = server.http.post(PREFIX + "/keys", json={"project": "shop", "sha256": sha(server.env["ECOTONE_TOKEN"])})
    assert answer.status_code == 409
    for wrong in ("", "abc", "g" * 64):
        assert server.http.post(PREFIX + "/keys", json={"project": "shop", "sha256": wrong}).status_code == 400


def test_what_bounds_a_project_bounds_keys_that_were_made_before(server: Running) -> None:
    told(server, "project", "create", "narrow", *USE)
    wide = told(server, "key", "create", "--project", "narrow")
    apart = told(server, "key", "create", "--project", "narrow", "--model", "anthropic/*")
    told(server, "project", "set", "narrow", "--model", "openai/*", "--network", "10.0.0.0/8", "--keep-texts", "30d")
    found = saved(server, lambda s: sha(wide) in s.keys and s.keys[sha(wide)].models)
    assert found.keys[sha(wide)].models == ("openai/*",) and found.keys[sha(wide)].networks == ("10.0.0.0/8",)
    assert found.keys[sha(apart)].models == ("-",), "lists that share nothing must not read as no list at all"
    assert found.consumers["narrow"].keep_days == 30


def test_texts_go_unscanned_only_with_a_reason_that_the_ledger_has(server: Running) -> None:
    told(server, "project", "create", "rough", *USE)
    body = {"mode": "serve_api", "purpose": "commercial", "scan": False}
    refused = server.http.put(PREFIX + "/projects/rough", json=body)
    assert refused.status_code == 400 and "ledger" in refused.json()["error"]["message"]
    assert saved(server, lambda s: "shop" in s.consumers).consumers["shop"].scan
    reason = "synthetic texts alone, see ticket 7"
    told(server, "project", "set", "rough", "--no-scan", "--reason", reason)
    assert saved(server, lambda s: "rough" in s.consumers and not s.consumers["rough"].scan)
    records = b"".join(data for _, data in contents(server.data / "ledger"))
    assert reason.encode() in records
    told(server, "project", "set", "rough", "--tag", "x")
    assert server.http.get(PREFIX + "/projects/rough").json()["scan"] is False


def test_limits_are_not_lost_by_a_command_that_names_none(server: Running) -> None:
    told(server, "project", "create", "held", *USE, "--budget", "50USD/month")
    done = server.cli("limit", "set", "project:held")
    assert done.returncode == 2 and "limit remove project:held" in " ".join(done.stderr.split())
    assert server.http.get(PREFIX + "/limits/project:held").json()["budgets"] == ["50USD/month"]


def test_limits_stand_at_every_scope_and_go_with_what_they_were_set_for(server: Running) -> None:
    budgets = ("--budget", "50USD/month", "--user-budget", "2USD/day")
    told(server, "project", "create", "paid", *USE, "--requests", "600", "--tokens", "100000", *budgets)
    told(server, "backend", "add", "scoped", "--url", "http://127.0.0.1:9/v1")
    key = server.http.post(PREFIX + "/keys", json={"project": "paid", "budgets": ["1USD/hour"]}).json()["id"]
    for scope in ("organisation", "backend:scoped", "project:paid/tag:web"):
        told(server, "limit", "set", scope, "--concurrent", "8", "--budget", "0.5usd / total")
    wanted = {
        "project:paid", "project:paid/user:*", "project:paid/tag:web", "organisation", "backend:scoped", f"key:{key}"
    }  # fmt: skip
    found = saved(server, lambda s: wanted <= set(s.limits))
    assert found.limits["project:paid"].tokens == 100_000
    assert found.limits["project:paid/user:*"].budgets[0].limit == 2 * 10**12
    budget = found.limits["organisation"].budgets[0]
    assert (budget.limit, budget.window, budget.id) == (5 * 10**11, "total", "organisation@total")
    told(server, "project", "set", "paid", "--budget", "60USD/month")
    shown = server.http.get(PREFIX + "/limits/project:paid").json()
    assert (shown["requests"], shown["budgets"]) == (600, ["60USD/month"]), "what was not named must stay"
    told(server, "project", "remove", "paid")
    told(server, "backend", "remove", "scoped")
    told(server, "limit", "remove", "organisation")
    assert not wanted & set(saved(server, lambda s: not wanted & set(s.limits)).limits)
    for scope in ("project:nothing", "key:0", "backend:nothing"):
        assert server.http.put(f"{PREFIX}/limits/{scope}", json={}).status_code == 404
    for scope in ("everything", "project:shop/user:ann", "project:../x"):
        assert server.http.put(f"{PREFIX}/limits/{scope}", json={"requests": 1}).status_code == 400


def test_a_route_is_set_with_every_option_and_old_ones_fall_back(server: Running) -> None:
    told(server, "route", "set", "plain", "--to", "a/b")
    told(
        server,
        "route", "set", "full", "--to", "a/b", "--to", "c/d=2", "--retries", "0", "--first-seconds", "20",
        "--cache", "60s", "--shadow", "e/f", "--shadow-share", "0.1", "--alias", "--sticky",
    )  # fmt: skip
    routes = saved(server, lambda s: {"plain", "full"} <= set(s.routes)).routes
    assert routes["plain"] == snapshots.Route(name="plain", candidates=(snapshots.RouteCandidate(model="a/b"),))
    full = routes["full"]
    assert (full.strategy, [c.weight for c in full.candidates]) == ("weighted", [1.0, 2.0])
    assert (full.retries, full.first_seconds, full.cache_seconds) == (0, 20.0, 60)
    assert (full.shadow, full.shadow_share, full.alias, full.sticky) == ("e/f", 0.1, True, True)
    for body in (
        {"to": ["a/b"], "strategy": "random"},
        {"to": ["a/b"], "weights": [2]},
        {"to": ["a/b"], "strategy": "weighted", "weights": [1, 2]},
        {"to": ["a/b"], "strategy": "weighted", "weights": [0]},
        {"to": ["a/b"], "retries": 99},
        {"to": ["a/b"], "shadow": "x\ny"},
        {"to": ["a/b"], "shadow_share": 0},
        {"to": ["a/b"], "first_seconds": -1},
    ):
        assert server.http.put(PREFIX + "/routes/bad", json=body).status_code == 400, body
    refused = server.http.delete(PREFIX + "/routes/bad")
    assert refused.status_code == 404


def test_putting_the_same_again_changes_nothing_so_that_terraform_sees_no_drift(server: Running) -> None:
    key = server.http.post(PREFIX + "/keys", json={"project": "shop"}).json()["id"]
    terms = {
        "note": "n",
        "expires": "2030-01-01T00:00:00Z",
        "models": ["a/*"],
        "networks": ["10.0.0.0/8"],
        "tags": ["t"],
    }
    use = {"mode": "serve_api", "purpose": "commercial", "owners": ["ann"], "models": ["b", "a/*"], "keep_days": 3}
    for path, body in (
        (f"/keys/{key}", terms),
        ("/projects/terraformed", use),
        ("/projects/terraformed", use | {"scan": False, "scan_reason": "made-up texts alone"}),
        (f"/limits/key:{key}", {"requests": 5, "budgets": ["1USD/day", "2.5USD/month"]}),
        ("/limits/project:terraformed", {"budgets": ["2.5USD/month", "1USD/day", "0.5USD/hour"]}),
        ("/routes/terraformed", {"to": ["a/b"], "strategy": "cheapest", "cache_seconds": 5}),
        ("/backends/terraformed", {"url": "http://127.0.0.1:9/v1", "location": "local"}),
        ("/prices/terraformed/a", {"input": "1.0", "output": "2.50", "cache_read": "0.10"}),
        ("/prices/terraformed/*", {"free": True}),
    ):
        first = server.http.put(PREFIX + path, json=body)
        assert first.is_success, first.text
        again = server.http.put(PREFIX + path, json=body).json()
        shown = server.http.get(PREFIX + path).json()
        assert again == first.json()
        assert {n: again[n] for n in body} == {n: shown[n] for n in body} == body
        if not path.startswith("/prices"):
            kept = {n: v for n, v in again.items() if n != "warnings"}
            assert {n: shown[n] for n in kept} == kept
    elsewhere = server.http.put(PREFIX + f"/keys/{key}", json=terms | {"expires": "2030-01-01T02:00:00+02:00"}).json()
    assert elsewhere["expires"] == terms["expires"], "one moment, one writing"
    rules = [r for r in server.http.get(PREFIX + "/rules").json() if r["subject"] == "backend:terraformed"]
    assert len(rules) == 1, "each PUT of a backend without terms left one more rule behind"
    server.http.put(PREFIX + "/backends/terraformed", json={"url": "http://127.0.0.1:9/v1", "terms": "openai-terms"})


@pytest.mark.parametrize(
    "text", ["50USD/month", "0.000000000001USD/day", "9000000USD/total", "2.5USD/week", "0USD/hour"]
)
def test_money_is_exact_both_ways(text: str) -> None:
    assert written_budget(*read_budget(text)) == text


@pytest.mark.parametrize(
    "text", ["", "50", "50EUR/month", "50USD/fortnight", "-1USD/day", "1e3USD/day", "9000001USD/day"]
)
def test_what_is_no_budget_is_refused_with_how_one_is_written(text: str) -> None:
    with pytest.raises(Invalid):
        read_budget(text)


def test_amounts_and_windows_read_as_people_write_them() -> None:
    assert usd(12_345_678 * 10**6) == "12.345678" and usd(0) == "0"
    friday = datetime(2026, 11, 27, 15, 4, tzinfo=UTC)
    days = {window: began(window, friday).strftime("%m-%d %H") for window in ("hour", "day", "week", "month")}
    assert days == {"hour": "11-27 15", "day": "11-27 00", "week": "11-23 00", "month": "11-01 00"}


PATTERN = st.sampled_from(["*", "a*", "ab", "ab*", "b", "abc", "b*"])


@given(st.lists(PATTERN, max_size=3), st.lists(PATTERN, max_size=3), st.text("abc", max_size=4))
def test_two_lists_together_pass_exactly_what_both_pass(one: list[str], other: list[str], name: str) -> None:
    def passes(patterns: tuple[str, ...] | list[str]) -> bool:
        return not patterns or any(fits(name, p) for p in patterns)

    assert passes(models_of_both(tuple(one), tuple(other))) == (passes(one) and passes(other))


def test_networks_of_both_are_those_inside_the_other() -> None:
    assert networks_of_both(("10.0.0.0/8", "::/0"), ("10.1.0.0/16", "192.0.2.0/24")) == ("10.1.0.0/16",)
    assert networks_of_both(("10.0.0.0/8",), ("192.0.2.0/24",)) == ("0.0.0.0/32",)


@pytest.fixture
def chat(server: Running) -> Iterator[Callable[..., httpx.Response]]:
    """Chat with a model of a backend that answers, by a key."""
    provider = Provider()
    answer = server.http.put(PREFIX + "/backends/talks", json={"url": provider.url, "location": "local"})
    assert answer.is_success, answer.text

    def ask(secret: str, model: str = "talks/gpt", status: int = 200) -> httpx.Response:
        """The answer; a change has two seconds to be in force, and more on a machine that others use."""
        end = time.monotonic() + 90
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        while True:
            headers = {"authorization": f"Bearer {secret}"}
            sent = httpx.post(server.url + "/v1/chat/completions", json=body, headers=headers, timeout=120)
            if sent.status_code == status or time.monotonic() > end:
                assert sent.status_code == status, sent.text
                return sent
            time.sleep(0.1)

    yield ask
    provider.stop()


def test_what_was_set_is_what_the_gateway_does(server: Running, chat: Callable[..., httpx.Response]) -> None:
    made = server.http.post(PREFIX + "/keys", json={"project": "shop"}).json()
    secret, at = made["key"], f"{PREFIX}/keys/{made['id']}"
    chat(secret)
    server.http.put(at, json={"models": ["talks/other"]})
    chat(secret, status=404)
    chat(secret, "talks/other")
    server.http.put(at, json={"networks": ["192.0.2.0/24"]})
    chat(secret, status=401)
    server.http.put(at, json={"networks": ["127.0.0.0/8"], "expires": "2020-01-01T00:00:00Z"})
    chat(secret, status=401)
    server.http.put(at, json={})
    chat(secret)
    fresh = server.http.post(at + "/rotate", json={"overlap_seconds": 3600}).json()["key"]
    chat(fresh)
    chat(secret)
    server.http.delete(at)
    chat(fresh, status=401)
    chat(secret, status=401)

"""Who may manage what: every endpoint and page of management with every role, and what no sequence of calls can do."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from ecotone import web
from ecotone.accounts import SYSTEM, Bounds, KeyTerms, models_within, networks_within
from ecotone.api import ENDPOINTS, PREFIX
from ecotone.gateway import Allowance
from ecotone.gateway.budgets import read_budget
from ecotone.vocabulary import Mode, Purpose, Role
from tests.hub.built import Built, bearer

ROLES = ("nobody", "key", "reader", "writer", "owner", "administrator")
USERS, WRITERS, OWNERS, ADMINISTRATORS = ROLES[2:], ROLES[3:], ROLES[4:], ROLES[5:]
OTHERS_ENDPOINTS = ("bills", "duties", "licences", "lineage", "models", "upkeep", "webhooks", "work")
"""Modules of the REST API that manage neither the gateway nor who may use it; `tests/api` tries those."""
MAY: dict[str, tuple[str, ...]] = {
    "POST /projects": ADMINISTRATORS,
    "GET /projects": USERS,
    "GET /projects/{name}": USERS,
    "PUT /projects/{name}": ADMINISTRATORS,
    "DELETE /projects/{name}": ADMINISTRATORS,
    "POST /tokens": ADMINISTRATORS,
    "GET /tokens": USERS,
    "GET /tokens/{id}": ADMINISTRATORS,  # of others; each user has their own
    "DELETE /tokens/{id}": ADMINISTRATORS,
    "GET /me": USERS,
    "POST /keys": OWNERS,
    "GET /keys": USERS,
    "GET /keys/{id}": OWNERS,
    "PUT /keys/{id}": OWNERS,
    "POST /keys/{id}/rotate": OWNERS,
    "POST /keys/{id}/adopt": ADMINISTRATORS,
    "DELETE /keys/{id}": OWNERS,
    "GET /limits": USERS,
    "GET /limits/{scope:path}": OWNERS,
    "PUT /limits/{scope:path}": OWNERS,
    "DELETE /limits/{scope:path}": ADMINISTRATORS,
    "POST /backends": ADMINISTRATORS,
    "GET /backends": USERS,
    "GET /backends/{name}": USERS,
    "PUT /backends/{name}": ADMINISTRATORS,
    "DELETE /backends/{name}": ADMINISTRATORS,
    "PUT /routes/{name}": ADMINISTRATORS,
    "GET /routes": USERS,
    "GET /routes/{name}": USERS,
    "DELETE /routes/{name}": ADMINISTRATORS,
    "GET /why/{request_id}": USERS,
    "GET /ledger/verify": USERS,
    "GET /ledger/usage": USERS,
    "GET /openapi.json": tuple(role for role in ROLES if role != "key"),
    "POST /rules": ADMINISTRATORS,
    "GET /rules": USERS,
    "GET /rules/{id}": USERS,
    "POST /rules/{id}/approve": ADMINISTRATORS,
    "DELETE /rules/{id}": ADMINISTRATORS,
    "GET /profile": USERS,
    "PUT /profile": ADMINISTRATORS,
    "GET /prices": USERS,
    "GET /prices/{model:path}": USERS,
    "PUT /prices/{model:path}": ADMINISTRATORS,
    "DELETE /prices/{model:path}": ADMINISTRATORS,
    "GET /usage": USERS,
    "POST /usage/rebuild": ADMINISTRATORS,
    "GET /ledger/key": USERS,
    "GET /ledger/due": ADMINISTRATORS,
    "POST /ledger/retire": ADMINISTRATORS,
    "POST /ledger/export": ADMINISTRATORS,
    "POST /ledger/export/received": ADMINISTRATORS,
    "POST /ledger/datasets": ADMINISTRATORS,
    "GET /lineage/family": tuple(role for role in ROLES if role != "key"),
    "POST /lineage/impact": USERS,
    "POST /lineage/withdrawals": ADMINISTRATORS,
    "GET /lineage/withdrawals": ADMINISTRATORS,
    "GET /lineage/withdrawals/{id}": ADMINISTRATORS,
    "POST /lineage/withdrawals/{id}/check": ADMINISTRATORS,
    "POST /lineage/words": ADMINISTRATORS,
    "GET /lineage/words": ADMINISTRATORS,
    "POST /lineage/words/{id}/approve": ADMINISTRATORS,
    "DELETE /lineage/words/{id}": ADMINISTRATORS,
    "GET /texts/{request_id}": ADMINISTRATORS,
    "DELETE /texts/projects/{name}": ADMINISTRATORS,
}
UNTOUCHED = re.compile(r"nothing|assistant|/prices/|/ledger/|/lineage/")
"""Addresses at which nothing is there, or a body is asked for that other tests send."""
PAGES_OF_ADMINISTRATORS = {
    "/ecotone/status",
    "/ecotone/profile",
    "/ecotone/projects",
    "/ecotone/projects/{name}",
    "/ecotone/keys/{id}",
    "/ecotone/routes",
    "/ecotone/routes/{name}",
    "/ecotone/backends/{name}",
    "/ecotone/withdrawals",
    "/ecotone/withdrawals/{id}",
}
PAGES_OF_OTHERS = re.compile(
    r"/ecotone/(?:licences|webhooks|access|discussions|requests|traffic|why|you|deployments|playground)(?:/|\Z)"
)


@dataclass
class House:
    """The built application with one project and a key of each kind, made anew for each call that could end it."""

    built: Built
    secrets: dict[str, str | None]

    @property
    def services(self) -> Any:
        return self.built.services

    def ask(self, method: str, path: str, role: str, **how: Any) -> httpx.Response:
        return self.built.http.request(method, path, headers=bearer(self.secrets[role]), **how)

    def body(self, spec: str) -> Any:
        return {
            "POST /keys": {"project": "shop"},
            "POST /projects": {"name": f"p{time.monotonic_ns()}", "mode": "run", "purpose": "research"},
            "PUT /projects/{name}": {"mode": "serve_api", "purpose": "commercial", "owners": ["olga"]},
            "POST /backends": {"name": f"b{time.monotonic_ns()}", "url": "http://127.0.0.1:9/v1"},
            "PUT /limits/{scope:path}": {"requests": 3},
            "PUT /backends/{name}": {"url": "http://127.0.0.1:9/v1"},
            "PUT /routes/{name}": {"to": ["demo/x"]},
            "POST /tokens": {"user": "fresh"},
            "POST /rules": {"kind": "pass_unknown", "subject": "demo/x", "reason": "r"},
        }.get(spec, {})

    def path(self, spec: str) -> str:
        """The address with something there that the role could reach, made anew."""
        services, path = self.services, spec.split(" ", 1)[1]
        if "/keys/{id}" in path or "{scope" in path:
            owner = services.accounts.actor_for_token(self.secrets["owner"])
            key = services.accounts.create_key("shop", actor=owner)[0]
            services.limits.set(f"key:{key.id}", Allowance(requests=5), actor=SYSTEM)
            return path.replace("{id}", key.id).replace("{scope:path}", f"key:{key.id}")
        if path == "/projects/{name}":
            name = "shop" if spec.startswith(("GET", "PUT")) else f"gone{time.monotonic_ns()}"
            if name != "shop":
                use: dict[str, Any] = {"mode": Mode.RUN, "purpose": Purpose.RESEARCH}
                services.accounts.create_project(name, actor=SYSTEM, bounds=Bounds(owners=("olga",)), **use)
            return path.replace("{name}", name)
        if "/routes/{name}" in path:
            services.routes.set("assistant", ("demo/x",), actor=SYSTEM)
        if path == "/tokens/{id}":
            return path.replace("{id}", services.accounts.create_token("other", Role.READ)[0].id)
        return (
            path.replace("{model:path}", "mock/x")
            .replace("{name}", "assistant")
            .replace("{id}", "nothing")
            .replace("{request_id}", "nothing")
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = Built(tmp_path_factory.mktemp("rights"), public_url=None)
    accounts = built.services.accounts
    bounds = Bounds(owners=("olga",), models=("openai/*", "assistant"), networks=("10.0.0.0/8",))
    use: dict[str, Any] = {"mode": Mode.SERVE_API, "purpose": Purpose.COMMERCIAL}
    accounts.create_project("shop", actor=SYSTEM, bounds=bounds, **use)
    accounts.create_project("other", actor=SYSTEM, **use)
    limits = Allowance(requests=100, tokens=1000, concurrent=4, budgets=("50USD/month",))
    built.services.limits.set("project:shop", limits, actor=SYSTEM)
    secrets = {"nobody": None, "key": accounts.create_key("shop", actor=SYSTEM)[1]}
    users = (("reader", Role.READ), ("writer", Role.WRITE), ("owner", Role.WRITE), ("administrator", Role.ADMIN))
    for role, word in users:
        secrets[role] = accounts.create_token("olga" if role == "owner" else role, word)[1]
    yield House(built, secrets)
    built.stop()


def test_every_management_endpoint_has_an_entry_so_that_a_new_one_is_closed_until_somebody_thought_of_it() -> None:
    served = {
        f"{e.method} {e.path}" for e in ENDPOINTS if e.handler.__module__.rpartition(".")[2] not in OTHERS_ENDPOINTS
    }
    assert served == set(MAY)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("spec", sorted(MAY))
def test_each_role_does_what_the_table_says_and_nothing_else(house: House, spec: str, role: str) -> None:
    answer = house.ask(spec.split(" ")[0], PREFIX + house.path(spec), role, json=house.body(spec))
    if role in MAY[spec]:
        assert answer.status_code not in (401, 403), answer.text
        assert answer.is_success or UNTOUCHED.search(answer.url.path), answer.text
    else:
        assert answer.status_code in (401, 403, 404), answer.text
        assert answer.status_code == 401 or role in USERS


def test_every_page_under_ecotone_is_an_administrators_or_named_as_anybodys() -> None:
    pages = {r.path for r in web.routes() if isinstance(r, Route) and r.path.startswith("/ecotone/")}
    assert {path for path in pages if not PAGES_OF_OTHERS.match(path)} == PAGES_OF_ADMINISTRATORS


@pytest.mark.parametrize("role", ROLES[:-1])
@pytest.mark.parametrize("path", sorted(PAGES_OF_ADMINISTRATORS))
def test_no_other_role_sees_or_sends_an_administrators_page(house: House, path: str, role: str) -> None:
    at = path.replace("{name}", "shop").replace("{id}", "nothing")
    for method in ("GET", "POST"):
        answer = house.ask(method, at, role, **({"data": {"act": "save", "name": "mine"}} if method == "POST" else {}))
        assert answer.status_code in (303, 401, 403, 405), (method, answer.status_code)
        assert answer.status_code != 303 or "/login" in answer.headers["location"]
        assert "10.0.0.0/8" not in answer.text


def test_a_key_of_another_project_looks_like_none_to_an_owner(house: House) -> None:
    hidden = house.services.accounts.create_key("other", actor=SYSTEM)[0].id
    for method, path, body in (
        ("GET", "/keys/{}", None),
        ("PUT", "/keys/{}", {}),
        ("POST", "/keys/{}/rotate", {}),
        ("DELETE", "/keys/{}", None),
        ("GET", "/limits/key:{}", None),
        ("PUT", "/limits/key:{}", {}),
    ):
        known = house.ask(method, PREFIX + path.format(hidden), "owner", json=body)
        absent = house.ask(method, PREFIX + path.format("0" * 12), "owner", json=body)
        assert known.status_code == absent.status_code == 404
        assert known.text.replace(hidden, "0" * 12) == absent.text


MODELS = st.lists(
    st.sampled_from(["*", "openai/*", "openai/gpt", "assistant", "anthropic/*", "openai/gpt*"]), max_size=2
)
NETWORKS = st.lists(st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "::/0", "192.0.2.1"]), max_size=2)
TERMS = st.fixed_dictionaries(
    {},
    optional={
        "models": MODELS,
        "networks": NETWORKS,
        "tags": st.lists(st.sampled_from(["a", "b"]), max_size=1),
        "expires": st.sampled_from([None, "2097-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]),
        "note": st.just("mine"),
    },
)
NUMBER = st.sampled_from([None, 0, 3, 100, 10**6])
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "requests": NUMBER,
        "tokens": NUMBER,
        "concurrent": NUMBER,
        "budgets": st.lists(st.sampled_from(["1USD/day", "40USD/month", "500USD/month", "9USD/total"]), max_size=2),
    },
)
PROJECT = st.sampled_from(["shop", "other", "house"])
OTHERS = st.sampled_from(
    [
        ("POST", "/tokens", {"user": "olga", "role": "admin"}),
        ("PUT", "/projects/shop", {"mode": "run", "purpose": "research", "owners": ["olga", "writer"]}),
        ("PUT", "/projects/shop", {"mode": "run", "purpose": "research", "scan": False, "scan_reason": "r"}),
        ("PUT", "/projects/olgas", {"mode": "run", "purpose": "research"}),
        ("DELETE", "/projects/shop", {}),
        ("PUT", "/limits/project:shop", {}),
        ("DELETE", "/limits/project:shop", {}),
        ("PUT", "/limits/organisation", {}),
        ("PUT", "/routes/assistant", {"to": ["openai/expensive"]}),
        ("PUT", "/backends/openai", {"url": "https://evil.example/v1"}),
        ("POST", "/rules", {"kind": "pass_unknown", "subject": "*", "reason": "r"}),
        ("POST", "/keys", {"project": "shop", "sha256": "ab" * 32}),
    ]
)
INDEX = st.one_of(st.just(0), st.integers(0, 9))
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("mint"), PROJECT, TERMS, LIMITS),
        st.tuples(st.just("set"), INDEX, TERMS),
        st.tuples(st.just("limit"), INDEX, LIMITS),
        st.tuples(st.sampled_from(["rotate", "adopt", "unlimit"]), INDEX),
        st.tuples(st.just("other"), OTHERS),
    ),
    min_size=3,
    max_size=12,
)


def rights(house: House) -> dict[str, Any]:
    """What stands of each key and beyond keys: nothing here may ever grow by an owner's calls."""
    services = house.services
    snapshot = services.builder.build()
    owner = services.accounts.actor_for_token(house.secrets["owner"])
    return {
        "role": owner.role,
        "keys": {key.id: key for key in sorted(snapshot.keys.values(), key=lambda key: key.expires or float("inf"))},
        "projects": snapshot.consumers,
        "routes": snapshot.routes,
        "limits": snapshot.limits,
        "bounds": {p.name: p.bounds for p in services.accounts.projects()},
        "rules": [rule.id for rule in services.policy.rules()],
    }


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(calls=CALLS)
def test_no_sequence_of_an_owners_calls_raises_role_budget_models_or_networks(house: House, calls: Any) -> None:
    services = house.services
    terms = KeyTerms(models=("openai/gpt",), networks=("10.1.0.0/16",), tags=("fixed",))
    given_key = services.accounts.create_key("shop", actor=SYSTEM, terms=terms)[0]
    services.limits.set(f"key:{given_key.id}", Allowance(requests=2, budgets=("1USD/month",)), actor=SYSTEM)
    strange = services.accounts.create_key("other", actor=SYSTEM)[0].id
    own = {"project": "shop", "models": ["openai/gpt"], "networks": ["10.1.0.0/16"], "expires": "2097-06-01T00:00:00Z"}
    minted = house.ask("POST", PREFIX + "/keys", "owner", json=own | {"requests": 50, "budgets": ["20USD/month"]})
    assert minted.status_code == 201, minted.text
    mine = [minted.json()["id"], given_key.id, strange]
    before = rights(house)
    for call in calls:
        what, *more = call
        if what == "mint":
            made = house.ask("POST", PREFIX + "/keys", "owner", json={"project": more[0], **more[1], **more[2]})
            mine += [made.json()["id"]] if made.is_success else []
        elif what == "other":
            method, path, body = more[0]
            assert house.ask(method, PREFIX + path, "owner", json=body).status_code == 403
        else:
            key = mine[more[0] % len(mine)]
            method, path = {
                "set": ("PUT", f"/keys/{key}"),
                "limit": ("PUT", f"/limits/key:{key}"),
                "rotate": ("POST", f"/keys/{key}/rotate"),
                "adopt": ("POST", f"/keys/{key}/adopt"),
                "unlimit": ("DELETE", f"/limits/key:{key}"),
            }[what]
            house.ask(method, PREFIX + path, "owner", json=more[1] if len(more) > 1 else {})
        after = rights(house)
        check(before, after)
        before = after


def check(before: dict[str, Any], after: dict[str, Any]) -> None:
    for word in ("role", "projects", "routes", "bounds", "rules"):
        assert after[word] == before[word], word
    fixed = {scope: limit for scope, limit in before["limits"].items() if not scope.startswith("key:")}
    assert {scope: after["limits"].get(scope) for scope in fixed} == fixed
    shop = before["bounds"]["shop"]
    for key_id, key in after["keys"].items():
        known = before["keys"].get(key_id)
        if known is None:
            assert key.project == "shop"
            assert models_within(key.models, shop.models) and networks_within(key.networks, shop.networks)
            assert not set(key.tags)
        else:
            assert models_within(key.models, known.models) and networks_within(key.networks, known.networks)
            assert key.tags == known.tags and key.project == known.project
            assert not known.expires or (key.expires and key.expires <= known.expires)
        scope = f"key:{key_id}"
        was = before["limits"].get(scope) if known is not None else None
        now = after["limits"].get(scope)
        for name in ("requests", "tokens", "concurrent"):
            most = getattr(was, name, None)
            own = getattr(now, name, None)
            assert most is None or (own is not None and own <= most), (scope, name)
        amounts = {b.window: b.limit for b in now.budgets} if now is not None else {}
        for budget in was.budgets if was is not None else ():
            assert amounts.get(budget.window, budget.limit + 1) <= budget.limit, scope
        assert amounts.get("month", 0) <= read_budget("50USD/month")[0] or key.project != "shop"


def test_a_demoted_maker_takes_the_keys_they_answer_for_out_of_force_and_an_adopter_brings_them_back(
    house: House,
) -> None:
    services = house.services
    token, _ = services.accounts.create_token("mona", Role.ADMIN)
    mona = services.accounts.actor_of(token.id)
    assert mona is not None
    key, _ = services.accounts.create_key("shop", actor=mona)

    def in_force() -> bool:
        return key.hash in services.builder.build().keys

    assert in_force()
    services.accounts.create_token("mona", Role.WRITE)
    services.accounts.revoke_token(token.id)
    assert not in_force(), "an administrator who became a writer still lends a key an administrator's rights"
    assert services.accounts.key(key.id).state == "suspended"
    answer = house.ask("POST", f"{PREFIX}/keys/{key.id}/adopt", "administrator")
    assert answer.json()["vouched_by"] == "administrator" and in_force()


def test_an_owner_who_lost_the_project_loses_its_keys_at_once(house: House) -> None:
    services = house.services
    services.accounts.create_token("paul", Role.WRITE)
    use: dict[str, Any] = {"mode": Mode.RUN, "purpose": Purpose.RESEARCH, "actor": SYSTEM}
    services.accounts.create_project("pauls", bounds=Bounds(owners=("Paul",)), **use)
    paul = services.accounts.actor_of(services.accounts.tokens("paul")[0].id)
    key, _ = services.accounts.create_key("pauls", actor=paul)
    assert key.hash in services.builder.build().keys
    services.accounts.set_project("pauls", **use)
    assert key.hash not in services.builder.build().keys


def test_a_password_that_a_browser_remembers_lets_no_other_site_act(house: House) -> None:
    url = str(house.built.http.base_url).rstrip("/")
    use = {"name": "stolen", "mode": "run", "purpose": "research"}
    with httpx.Client(base_url=url, auth=("admin", house.secrets["administrator"] or "")) as browser:
        for origin in ("https://evil.example", "null", url + "1"):
            sent = browser.post(PREFIX + "/projects", json=use, headers={"origin": origin})
            assert sent.status_code == 401, sent.text
            sent = browser.post("/ecotone/projects", data={"name": "stolen"}, headers={"origin": origin})
            assert sent.status_code == 403, sent.text
        assert browser.get(PREFIX + "/projects/stolen").status_code == 404
        own = browser.post(PREFIX + "/projects", json=use, headers={"origin": url})
        assert own.status_code == 201, own.text

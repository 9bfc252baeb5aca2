"""Managing projects, keys, routes and backends by forms alone, as a browser without script sends them."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM
from tests.hub.built import Built
from tests.web.markup import Page


class Pages:
    """An administrator's browser: `.sees` a page, `.sends` one of its forms with some fields changed."""

    def __init__(self, built: Built) -> None:
        self.built = built
        self.http: httpx.Client = built.admin

    @property
    def snapshot(self) -> Any:
        return self.built.services.builder.build()

    def sees(self, path: str) -> str:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def sends(self, path: str, act: str, **changed: str) -> httpx.Response:
        """The form of the page whose hidden `act` it is, filled as it stands but for what changed."""
        text = self.sees(path)
        assert Page(text).problems == []
        for form in re.findall(r"<form[^>]*>.*?</form>", text, re.DOTALL):
            if f'name="act" value="{act}"' in form or (not act and 'name="name"' in form):
                fields = dict(re.findall(r'<input[^>]* name="([^"]+)"[^>]* value="([^"]*)"', form))
                fields |= dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
                for name, options in re.findall(r'<select[^>]* name="([^"]+)">(.*?)</select>', form, re.DOTALL):
                    values = re.findall(r'<option value="([^"]*)"( selected)?', options)
                    fields[name] = next((value for value, chosen in values if chosen), values[0][0])
                fields |= dict(re.findall(r'<textarea[^>]* name="([^"]+)"[^>]*>(.*?)</textarea>', form, re.DOTALL))
                assert set(changed) <= set(fields), set(changed) - set(fields)
                return self.http.post(path, data=fields | changed)
        raise AssertionError(f"{path} has no form that does {act!r}")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    built = Built(tmp_path_factory.mktemp("pages"), public_url=None)
    found = Pages(built)
    assert found.sends("/ecotone/projects", "", name="shop").status_code == 303
    yield found
    built.stop()


def made(pages: Pages, **terms: str) -> tuple[str, str]:
    """The id and secret of a key that the project's page made."""
    answer = pages.sends("/ecotone/projects/shop", "key", **terms)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    secret = re.search(r"<code>(eck_[\w-]+)</code>", answer.text)
    key_id = re.search(r"/ecotone/keys/([0-9a-f]+)", answer.text)
    assert secret and key_id
    return key_id[1], secret[1]


def sha(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_a_project_gets_its_bounds_limits_and_budgets_and_keeps_what_the_form_does_not_show(pages: Pages) -> None:
    accounts = pages.built.services.accounts
    use = accounts.project("shop")
    accounts.set_project("shop", mode=use.mode, purpose=use.purpose, users=7, actor=SYSTEM)
    sent = pages.sends(
        "/ecotone/projects/shop", "save", models="openai/*, assistant", networks="10.0.0.0/8", owners="olga wanda",
        requests="1,000", budgets="50USD/month 5USD/day", user_budgets="1USD/day", keep_days="30",
    )  # fmt: skip
    assert sent.status_code == 303, sent.text
    assert "Saved." in pages.sees(sent.headers["location"])
    limits = pages.snapshot.limits
    assert limits["project:shop"].requests == 1000
    assert {b.window: b.limit // 10**12 for b in limits["project:shop"].budgets} == {"month": 50, "day": 5}
    assert limits["project:shop/user:*"].budgets[0].limit == 10**12
    assert accounts.project("shop").users == 7
    bounds = accounts.project("shop").bounds
    assert (bounds.owners, bounds.models, bounds.keep_days) == (("olga", "wanda"), ("openai/*", "assistant"), 30)
    again = pages.sends("/ecotone/projects/shop", "save")
    assert again.status_code == 303
    assert pages.snapshot.limits == limits, "sending the form as it stands changed something"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("budgets", "50EUR/month"),
        ("requests", "many"),
        ("models", "openai/gpt*x"),
        ("networks", "10.0.0.1/8"),
        ("scan", "no"),
        ("tags", "<b>"),
    ],
)
def test_a_wrong_field_is_told_and_what_was_typed_is_still_there(pages: Pages, field: str, text: str) -> None:
    before = pages.built.services.accounts.project("shop").bounds
    answer = pages.sends("/ecotone/projects/shop", "save", **{field: text})
    assert answer.status_code == 400 and "Nothing was changed." in answer.text
    assert field == "scan" or f'value="{text.replace("<", "&lt;").replace(">", "&gt;")}"' in answer.text
    assert pages.built.services.accounts.project("shop").bounds == before


def test_a_keys_secret_is_shown_once_and_never_again(pages: Pages) -> None:
    key_id, secret = made(pages, key_note="checkout <b>", key_models="openai/gpt-4o", key_budgets="2USD/day")
    key = pages.snapshot.keys[sha(secret)]
    assert key.models == ("openai/gpt-4o",) and key.expires > 0
    assert pages.snapshot.limits[f"key:{key_id}"].budgets[0].window == "day"
    for path in ("/ecotone/projects/shop", f"/ecotone/keys/{key_id}", "/ecotone/projects", "/ecotone/status"):
        text = pages.sees(path)
        assert secret not in text and sha(secret) not in text and "checkout <b>" not in text


def test_a_key_is_changed_rotated_and_revoked(pages: Pages) -> None:
    key_id, secret = made(pages)
    at = f"/ecotone/keys/{key_id}"
    assert pages.sends(at, "save", expires="2031-05-06 07:08:09", requests="9", tags="web").status_code == 303
    key = pages.snapshot.keys[sha(secret)]
    assert key.tags == ("web",) and pages.snapshot.limits[f"key:{key_id}"].requests == 9
    same = pages.sends(at, "save")
    assert same.status_code == 303 and pages.snapshot.keys[sha(secret)] == key
    rotated = pages.sends(at, "rotate", overlap="3600")
    fresh = re.search(r"<code>(eck_[\w-]+)</code>", rotated.text)
    assert fresh and fresh[1] != secret and rotated.headers["cache-control"] == "no-store"
    keys = pages.snapshot.keys
    assert keys[sha(fresh[1])].id == keys[sha(secret)].id == key_id
    assert pages.sends(at, "save", expires="tomorrow").status_code == 400
    assert pages.sends(at, "revoke").status_code == 303
    assert not {sha(secret), sha(fresh[1])} & set(pages.snapshot.keys)
    assert pages.http.post(at, data={"act": "rotate", "overlap": "0"}).status_code == 400
    assert "<button>Save" not in pages.sees(at)


def test_routes_and_backends_are_made_changed_and_removed(pages: Pages) -> None:
    added = pages.sends("/ecotone/routes", "backend", backend="mock", url="http://127.0.0.1:9/v1")
    assert added.status_code == 303, added.text
    lines = "mock/a = 3\r\nmock/b\r\n"
    assert pages.sends("/ecotone/routes", "route", name="both", strategy="weighted", to=lines).status_code == 303
    again = pages.sends("/ecotone/routes", "route", name="both", to="mock/a")
    assert again.status_code == 400 and "already" in again.text, "a form for new ones overwrote an old one"
    at = "/ecotone/routes/both"
    changed = {"cache_seconds": "60", "shadow": "mock/c", "shadow_share": "0.25", "sticky": "yes"}
    assert pages.sends(at, "save", first_seconds="2.5", **changed).status_code == 303
    route = pages.snapshot.routes["both"]
    assert [(c.model, c.weight) for c in route.candidates] == [("mock/a", 3.0), ("mock/b", 1.0)]
    assert (route.cache_seconds, route.shadow, route.shadow_share) == (60, "mock/c", 0.25)
    assert (route.sticky, route.first_seconds, route.retries) == (True, 2.5, 1)
    pages.sends(at, "save")
    assert pages.snapshot.routes["both"] == route
    assert pages.sends(at, "save", strategy="fallback").status_code == 400
    backend = "/ecotone/backends/mock"
    assert pages.sends(backend, "save", url="http://127.0.0.1:10/v1", concurrent="4").status_code == 303
    assert pages.snapshot.backends["mock"].url == "http://127.0.0.1:10/v1"
    assert pages.snapshot.limits["backend:mock"].concurrent == 4
    body = {"url": "http://127.0.0.1:9/v1", "dialect": "vllm"}
    assert pages.http.put("/api/ecotone/v1/backends/mock", json=body).status_code == 200
    assert pages.sends(backend, "save", url="http://127.0.0.1:10/v1").status_code == 303
    assert pages.snapshot.backends["mock"].dialect == "vllm", "the form parted no project's prefix cache any more"
    assert pages.sends(backend, "save", url="http://169.254.169.254/v1").status_code == 400
    assert pages.sends(backend, "save", key_env="ECOTONE_ADMIN_TOKEN").status_code == 400
    assert pages.sends(backend, "remove").status_code == 400, "a route still leads to it"
    assert pages.sends(at, "remove").status_code == 303
    assert pages.sends(backend, "remove").status_code == 303
    found = pages.snapshot
    assert "both" not in found.routes and "mock" not in found.backends and "backend:mock" not in found.limits


def test_every_act_of_a_page_is_in_the_ledger_with_who_did_it(pages: Pages) -> None:
    made(pages, key_note="for the ledger")
    acts = [r for r in pages.built.services.ledger.records("admin") if r["act"] == "key.created"]
    intents = [r for r in pages.built.services.ledger.records("intent") if r["act"] == "create_key"]
    assert acts and intents and {r["actor"] for r in [*acts, *intents]} == {"admin"}

"""Two who make the same thing at once are told what one would be told who comes a second later, on either database."""

import contextlib
import functools
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Accounts, Actor, Profile
from ecotone.app.ledger_heads import LedgerHeads
from ecotone.gateway.backends import Backends
from ecotone.gateway.kept_limits import Allowance, KeptLimits
from ecotone.gateway.pricebook import PriceBook
from ecotone.gateway.routing import Routes
from ecotone.ledger import Head
from ecotone.policy.rules import RuleKind
from ecotone.vocabulary import Location, Mode, NotFound, Purpose, Role, Tier
from tests.interleaving import Act, overlapping

BACKEND: Any = {"dialect": "openai", "url": "http://127.0.0.1:9/v1", "key_env": None, "location": Location.LOCAL,
           "tier": Tier.PAID, "terms": None, "actor": SYSTEM}  # fmt: skip


@pytest.fixture
def acts(house: SimpleNamespace) -> dict[str, tuple[Act, Act]]:
    """Two acts each that are about one thing."""
    accounts, routes = Accounts(house.database, house.settings), Routes(house.database)
    backends = Backends(house.database, house.settings, house.knowledge, house.policy)
    limits, prices = KeptLimits(house.database, accounts), PriceBook(house.database)
    heads, catalog = LedgerHeads(house.database), house.catalog
    one = catalog.create("team/one", private=True, actor=SYSTEM)
    use: Any = {"mode": Mode.RUN, "purpose": Purpose.COMMERCIAL, "actor": SYSTEM}

    def rule(value: str) -> object:
        return house.policy.add_rule(RuleKind.POSITION, "nc_internal", "so read", actor=SYSTEM, value=value)

    accounts.on_project_removed(limits.forget_project)
    accounts.create_project("old", **use)
    routes.set("old", ("team/one",), actor=SYSTEM)
    backends.add("old", **BACKEND)
    for scope in ("backend:old", "project:old"):
        limits.set(scope, Allowance(requests=9), actor=SYSTEM)
    old = house.policy.add_rule(RuleKind.BLOCK, "team/one", "no", actor=SYSTEM)

    keyed = BACKEND | {"key_env": "OPENAI_API_KEY"}

    def lower(scope: str) -> Act:
        return lambda: limits.set(scope, Allowance(requests=1), actor=SYSTEM)

    return {
        "route that goes": (lambda: routes.set("old", ("team/other",), actor=SYSTEM), lambda: routes.remove("old")),
        "backend that goes": (lambda: backends.set("old", **keyed), lambda: backends.remove("old")),
        "limits that go": (lower("backend:old"), lambda: limits.remove("backend:old", actor=SYSTEM)),
        "limits with their backend": (lower("backend:old"), lambda: backends.remove("old")),
        "limits with their project": (lower("project:old"), lambda: accounts.remove_project("old")),
        "rule that goes": (lambda: house.policy.remove_rule(old.id), lambda: house.policy.remove_rule(old.id)),
        "project": (lambda: accounts.create_project("shop", **use), lambda: accounts.create_project("shop", **use)),
        "profile": (
            lambda: accounts.set_profile(Profile(users=1), actor=SYSTEM),
            lambda: accounts.set_profile(Profile(users=2), actor=SYSTEM),
        ),
        "backend": (lambda: backends.add("far", **BACKEND), lambda: backends.add("far", **BACKEND)),
        "backend set": (lambda: backends.set("far", **BACKEND), lambda: backends.set("far", **BACKEND)),
        "limits": (
            lambda: limits.set("organisation", Allowance(requests=1), actor=SYSTEM),
            lambda: limits.set("organisation", Allowance(requests=2), actor=SYSTEM),
        ),
        "route": (
            lambda: routes.set("fast", ("team/one",), actor=SYSTEM),
            lambda: routes.set("fast", ("team/other",), actor=SYSTEM),
        ),
        "price": (
            lambda: prices.set("team/one", {"input": "1", "output": "2"}, actor=SYSTEM),
            lambda: prices.set("team/one", {"input": "3", "output": "4"}, actor=SYSTEM),
        ),
        "position": (lambda: rule("allow"), lambda: rule("deny")),
        "files": (lambda: catalog.keep_generated(one, ["aa"]), lambda: catalog.keep_generated(one, ["aa", "bb"])),
        "heads": (
            lambda: heads.keep({"server": Head(records=2, hash="2")}),
            lambda: heads.keep({"server": Head(records=1, hash="1")}),
        ),
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("route that goes", "done"),
        ("backend that goes", "done"),
        ("limits that go", "done"),
        ("limits with their backend", "done"),
        ("limits with their project", "done"),
        ("rule that goes", "rule_not_found"),
        ("project", "project_exists"),
        ("profile", "done"),
        ("backend", "backend_exists"),
        ("backend set", "done"),
        ("limits", "done"),
        ("route", "done"),
        ("price", "done"),
        ("position", "conflict"),
        ("files", "done"),
        ("heads", "done"),
    ],
)
def test_who_makes_the_same_at_once_is_told_as_one_who_comes_later(
    house: SimpleNamespace, acts: dict[str, tuple[Act, Act]], name: str, said: str
) -> None:
    assert overlapping(house.database, *acts[name]) == ["done", said]


TERMS: Any = {"set": [("backend:far", "ada")], "set with terms": [], "remove": []}
"""Rules that there are when a backend without terms was set first, and this was done in the same moment."""


@pytest.mark.parametrize("then", TERMS)
def test_one_rule_lets_a_backends_unknown_terms_pass_exactly_while_they_are_unknown(
    house: SimpleNamespace, then: str
) -> None:
    backends = Backends(house.database, house.settings, house.knowledge, house.policy)
    backends.set("far", **BACKEND | {"terms": "openai-services-agreement-2026-01-01"})
    ada, eve = (BACKEND | {"actor": Actor("user", name, Role.ADMIN)} for name in ("ada", "eve"))
    acts: dict[str, Act] = {
        "set": lambda: backends.set("far", **eve),
        "set with terms": lambda: backends.set("far", **eve | {"terms": "openai-services-agreement-2026-01-01"}),
        "remove": lambda: backends.remove("far"),
    }
    first = functools.partial(backends.set, "far", **ada)
    assert overlapping(house.database, first, acts[then], behind="from rules") == ["done", "done"]
    found = [(rule.subject, rule.by) for rule in house.policy.rules() if rule.kind is RuleKind.PASS_UNKNOWN]
    assert found == TERMS[then]


@pytest.mark.parametrize(
    ("scope", "act", "said"),
    [
        ("backend:old", "limits with their backend", "backend_not_found"),
        ("project:old/tag:*", "limits with their project", "project_not_found"),
    ],
)
def test_limits_are_not_set_for_what_goes_in_this_moment(
    acts: dict[str, tuple[Act, Act]],
    house: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    scope: str,
    act: str,
    said: str,
) -> None:
    """Whoever had the name next would have them."""
    limits, check = KeptLimits(house.database, Accounts(house.database, house.settings)), KeptLimits._check_scope

    def checked(*args: Any) -> str | None:
        found = check(*args)
        acts[act][1]()
        return found

    monkeypatch.setattr(KeptLimits, "_check_scope", checked)
    with pytest.raises(NotFound) as refused:
        limits.set(scope, Allowance(requests=1), actor=SYSTEM)
    assert refused.value.code == said
    assert scope not in [one.scope for one in limits.list()]


def test_a_head_of_the_ledger_never_moves_back(house: SimpleNamespace) -> None:
    heads = LedgerHeads(house.database)
    heads.keep({"server": Head(records=1, hash="1")})
    far, near = ({"server": Head(records=n, hash=str(n))} for n in (9, 5))
    acts = (lambda: heads.keep(near), lambda: heads.keep(far))
    assert overlapping(house.database, *acts) == ["done", "done"]
    assert heads.known() == far


def test_who_only_looks_at_a_repository_does_not_wait_for_who_changes_it(house: SimpleNamespace) -> None:
    model = house.catalog.create("team/model", private=True, actor=SYSTEM)
    looked = threading.Event()

    def look() -> None:
        house.catalog.check_author(model, SYSTEM)
        looked.set()

    with house.database.writing() as session:
        house.catalog._locked(session, model).private = False
        session.flush()
        threading.Thread(target=look, daemon=True).start()
        assert looked.wait(30)


def test_a_project_is_removed_over_one_connection(acts: dict[str, tuple[Act, Act]], house: SimpleNamespace) -> None:
    """Those who wait for their turn have one each: who has the turn and asked for another would wait for them."""
    with contextlib.ExitStack() as stack:
        for _ in range(14):  # of fifteen
            stack.enter_context(house.database.engine.connect())
        acts["limits with their project"][1]()

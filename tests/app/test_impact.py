"""What would change if a parent's licence or terms changed, asked of a whole house before it happens."""

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.app.effects import Effects, Question
from ecotone.engines import Options
from ecotone.licences import Use
from ecotone.policy import RuleKind
from ecotone.vocabulary import Invalid, Location, Mode, Purpose, Role, Tier
from tests.great_families import descend
from tests.hub.built import Built

RUN = Use(mode=Mode.RUN, purpose=Purpose.INTERNAL_COMMERCIAL)
SERVE = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
ADA = Actor("user", "ada", Role.ADMIN)
CONFIG = b'{"architectures": ["BertModel"], "model_type": "bert"}'


class House(Built):
    """a/base <- b/tuned (served, in a route) <- c/small; x/other stands apart. The project shop serves, lab runs."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, public_url=None)
        catalog, accounts = self.services.catalog, self.services.accounts
        family = (("a/base", ""), ("b/tuned", "a/base"), ("c/small", "b/tuned"), ("x/other", ""))
        for name, parent in family:
            catalog.create(name, private=False, actor=SYSTEM)
            card = f"---\nlicense: apache-2.0\n{f'base_model: {parent}' if parent else ''}\n---\n# {name}\n"
            self.commit(f"models/{name}", {"README.md": card.encode(), "config.json": CONFIG})
        for name, mode, purpose in (
            ("shop", Mode.SERVE_API, Purpose.COMMERCIAL),
            ("lab", Mode.RUN, Purpose.NONCOMMERCIAL),
        ):
            accounts.create_project(name, mode=mode, purpose=purpose, actor=ADA)
        for model in ("b/tuned", "x/other"):
            options = Options(kind="openai", on_demand=True, url="http://127.0.0.1:9/v1")
            self.services.engines.serve(model, "main", (), ADA, options)
        self.services.routes.set("assistant", ("b/tuned", "x/other"), actor=ADA)

    def asked(self, model: str, licence: str, **more: Any) -> Effects:
        found: Effects = self.services.impact.of(Question(model=model, licence=licence, **more), viewer=ADA)
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("house"))
    yield found
    found.stop()


def test_a_parent_that_turns_noncommercial_names_models_deployments_routes_and_projects(house: House) -> None:
    found = house.asked("a/base", "CC-BY-NC-4.0")
    assert [m.model for m in found.models] == ["a/base", "b/tuned", "c/small"]
    small = next(m for m in found.models if m.model == "c/small")
    assert [step["child"] for step in small.way] == ["b/tuned", "c/small"]
    sold = next(c for c in small.changes if "shop" in c.who)
    assert (sold.before, sold.after) == ("allow", "deny") and not sold.allowed_after
    assert sold.clause is not None and sold.clause["entry"] == "CC-BY-NC-4.0" and sold.clause["clause"]
    assert [d.name for d in found.deployments] == ["b/tuned"]
    (route,) = found.routes
    assert route.route == "assistant" and route.candidates == ("b/tuned",)
    shop = next(p for p in route.projects if p["project"] == "shop")
    assert (shop["before"], shop["after"], shop["not_concerned"]) == (["b/tuned", "x/other"], ["x/other"], [])
    assert "shop" in found.projects


def test_a_licence_that_ends_denies_everything_made_from_the_model(house: House) -> None:
    found = house.asked("a/base", "withdrawn", use=SERVE)
    assert {m.model: m.changes[0].after for m in found.models} == dict.fromkeys(
        ("a/base", "b/tuned", "c/small"), "deny"
    )
    clause = found.models[0].changes[0].clause
    assert clause is not None and clause["clause"] == "end of the licence" and "Apache-2.0" in clause["means"]
    assert house.asked("a/base", "unknown", use=RUN).models[0].changes[0].after == "unknown"


def test_what_already_stands_in_a_cards_place_changes_nothing(house: House) -> None:
    found = house.asked("a/base", "apache-2.0", use=SERVE)
    assert (found.changed, found.models, found.deployments, found.routes) == (0, (), (), ())
    assert found.looked_at == 3


def test_asking_changes_nothing(house: House) -> None:
    before = house.services.policy.judge("c/small", "main", SERVE).verdict
    house.asked("a/base", "withdrawn")
    assert house.services.policy.judge("c/small", "main", SERVE).verdict == before
    assert "licence-ended" not in house.services.policy.stance().knowledge.entries


def test_a_licence_that_no_entry_describes_is_refused_with_what_would_do(house: House) -> None:
    with pytest.raises(Invalid, match="ecotone licence list"):
        house.asked("a/base", "no-such-licence")
    with pytest.raises(Invalid, match="leave it out"):
        house.asked("a/base", "mit", revision="0" * 40)


def test_a_rule_that_concludes_another_licence_holds_and_is_named(house: House) -> None:
    policy = house.services.policy
    rule = policy.add_rule(
        RuleKind.CONCLUDED, "x/other", "read in the file", value="mit", evidence="LICENSE", actor=ADA,
        expires=date(2099, 1, 1),
    )  # fmt: skip
    policy.approve_rule(rule.id, actor=Actor("user", "bob", Role.ADMIN))
    found = house.asked("x/other", "withdrawn", use=SERVE)
    policy.remove_rule(rule.id)
    assert found.changed == 0 and found.held_by[0].startswith(f"rule {rule.id} (concluded)")


def test_newer_terms_of_a_provider_name_its_backend_and_whoever_calls_it(house: House) -> None:
    house.services.backends.add(
        "openai", dialect="openai", url="https://api.openai.com/v1", key_env=None, location=Location.EXTERNAL,
        tier=Tier.PAID, terms="openai-services-agreement-2026-01-01", actor=ADA,
    )  # fmt: skip
    house.services.routes.set("outside", ("openai/gpt-4o",), actor=ADA)
    found = house.asked("openai/gpt-4o", "withdrawn")
    assert [b.name for b in found.backends] == ["openai"]
    assert [r.route for r in found.routes] == ["outside"] and "shop" in found.projects
    assert found.routes[0].projects[0]["after"] == []


def test_a_family_of_a_thousand_is_answered_while_somebody_waits(house: House) -> None:
    descend(house.services.database, "x/other", 1000)
    began = time.perf_counter()
    clan = house.services.catalog.clan("x/other")
    walked = time.perf_counter() - began
    assert len(clan.descendants()) == 1000
    began = time.thread_time()
    found = house.asked("x/other", "CC-BY-NC-4.0")
    took = time.thread_time() - began  # a machine that others use takes longer
    print(f"1,000 descendants: walked in {walked:.2f} s, what-if in {took:.2f} s")
    assert found.changed == 1001 and len(found.models) == 1000
    assert took < 30

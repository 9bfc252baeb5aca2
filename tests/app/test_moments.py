"""What a second caller, or the gateway, meets in the midst of somebody's change."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.api import ENDPOINTS
from ecotone.api.accounts import ProjectTerms
from ecotone.api.endpoint import Call, _answered
from ecotone.app.services import Services, compose
from ecotone.gateway import Allowance
from ecotone.settings import Settings
from ecotone.vocabulary import Mode, Purpose
from ecotone.web.playing import PlayKeys

USE: dict[str, Any] = {"mode": Mode.SERVE_API, "purpose": Purpose.COMMERCIAL}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = compose(Settings(data=tmp_path))
    made.accounts.ensure_admin()
    yield made
    made.ledger_writer.close()
    made.database.dispose()


def test_keys_of_a_project_that_is_removed_are_never_in_force_without_its_budget(services: Services) -> None:
    """A snapshot between the two would let them spend without end; so would a server that ended there."""
    services.accounts.create_project("shop", actor=SYSTEM, **USE)
    services.accounts.create_key("shop", actor=SYSTEM)
    services.limits.set("project:shop", Allowance(budgets=("50USD/month",)), actor=SYSTEM)
    seen: list[tuple[int, int]] = []

    def look(*_: object) -> None:
        seen.append((len(services.accounts.living_secrets()), len(services.limits.list())))

    services.accounts.on_project_removed(look)
    services.accounts.remove_project("shop")
    look()
    assert seen == [(1, 1), (0, 0)]


def test_a_project_that_two_set_in_one_moment_is_set_by_both(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = services.accounts.create_project

    def created_by_another_before(name: str, **told: Any) -> Any:
        create(name, **told)
        return create(name, **told)

    monkeypatch.setattr(services.accounts, "create_project", created_by_another_before)
    spec = next(e for e in ENDPOINTS if e.handler.__name__ == "set_project")
    told = _answered(spec, Call(services=services, actor=SYSTEM, path={"name": "shop"}, body=ProjectTerms(**USE)))
    assert told["name"] == "shop"


def test_both_sides_of_the_playground_that_ask_at_once_have_one_key(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, got = PlayKeys(), list[str]()
    other = threading.Thread(target=lambda: got.append(keys.key(services, "house", SYSTEM)))
    create = services.accounts.create_key

    def created_late(*args: Any, **how: Any) -> Any:
        if not other.ident:
            other.start()
            other.join(1)
        return create(*args, **how)

    monkeypatch.setattr(services.accounts, "create_key", created_late)
    got.append(keys.key(services, "house", SYSTEM))
    other.join(90)
    assert len(got) == 2 and len(set(got)) == 1
    assert len(services.accounts.keys("house")) == 1

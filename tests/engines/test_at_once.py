"""Two servers on one database deploy, stop and delete a model in one moment, as over a graceful restart."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from ecotone.accounts import SYSTEM
from ecotone.engines import Engines, Options, adapting, services, stock
from ecotone.engines.models import DeploymentRow
from ecotone.settings import Settings
from tests.engines.shelf import PACE, outcome
from tests.engines.test_crossing import Replica
from tests.interleaving import overlapping

Servers = tuple[Engines, Engines]
WRITES = "from deployments"


@pytest.fixture
def servers(house: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """The second one holds its engines back until the first one has given its own up."""
    monkeypatch.setattr(Replica, "all", [])
    monkeypatch.setattr(stock, "Supervised", Replica)
    monkeypatch.setattr(services, "check_installed", lambda *_: None)
    monkeypatch.setattr(adapting, "is_adapter", lambda *_: False)
    house.catalog.create("demo/x", private=False, actor=SYSTEM)
    folders = [Settings(data=tmp_path / name) for name in ("old", "new")]
    old, new = (Engines(house.database, house.catalog, s, may_serve=lambda *_: outcome(), pace=PACE) for s in folders)
    house.catalog.on_deleting(old.check_unserved)
    new.hold()
    yield old, new
    for server in (old, new):
        server.shutdown()


def serve(engines: Engines, *projects: str, options: Options | None = None) -> Callable[[], object]:
    return partial(engines.serve, "demo/x", "main", projects, SYSTEM, options)


def delete(house: SimpleNamespace) -> Callable[[], object]:
    return partial(house.catalog.delete, house.catalog.model("demo/x", viewer=SYSTEM), SYSTEM)


def kept(house: SimpleNamespace) -> list[Any]:
    with house.database.reading() as session:
        return [list(projects) for projects in session.scalars(sa.select(DeploymentRow.projects))]


@pytest.mark.parametrize("order", [1, -1], ids=["deployed first", "stopped first"])
def test_what_one_server_stops_while_the_other_deploys_it_anew_is_as_the_later_one_asked(
    house: SimpleNamespace, servers: Servers, order: int
) -> None:
    old, new = servers
    serve(old)()
    new.restore()
    acts = (serve(new, "shop"), partial(old.stop, "demo/x"))[::order]
    assert overlapping(house.database, *acts, behind=WRITES) == ["done", "done"]
    assert kept(house) == ([] if order == 1 else [["shop"]])


def test_what_two_servers_deploy_at_once_is_deployed_as_the_later_one_asked(
    house: SimpleNamespace, servers: Servers
) -> None:
    old, new = servers
    assert overlapping(house.database, serve(old), serve(new, "shop"), behind=WRITES) == ["done"] * 2
    assert kept(house) == [["shop"]]


def test_a_model_is_not_deleted_while_another_server_deploys_it(house: SimpleNamespace, servers: Servers) -> None:
    _, new = servers
    assert overlapping(house.database, serve(new), delete(house), behind=WRITES) == ["done", "conflict"]
    assert kept(house) == [[]] and house.catalog.model("demo/x", viewer=SYSTEM)


@pytest.mark.parametrize("options", [Options(), Options(on_demand=True)], ids=["at once", "on demand"])
def test_a_model_that_is_deleted_while_it_is_deployed_is_not_served(
    house: SimpleNamespace, servers: Servers, options: Options
) -> None:
    old, _ = servers
    acts = (delete(house), serve(old, options=options))
    assert overlapping(house.database, *acts) == ["done", "model_not_found"]
    assert kept(house) == [] and old.deployments() == [] and old._fleets == {}
    assert all(replica.stopped for replica in Replica.all)

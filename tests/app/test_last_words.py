"""What a process says last, just before it ends, reaches its supervisor whenever the supervisor looks."""

from typing import Any

import pytest

from ecotone.app.gateways import _Place, _Tree
from ecotone.app.supervisor import _Supervisor


class Dying:
    """A process that tells why it fails and ends between two questions."""

    failure: str | None = None
    ready = False

    def __init__(self) -> None:
        self._told = False
        self._asked = 0

    def _goes_on(self) -> None:
        self._asked += 1

    def heard(self) -> list[tuple[str, str]]:
        found = [("failed", "the port is taken")] if self._asked and not self._told else []
        self._told = self._told or bool(found)
        self._goes_on()
        return found

    def ended(self) -> int | None:
        status = 1 if self._asked else None
        self._goes_on()
        return status


def test_a_worker_s_reason_is_known_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[Any] = []
    monkeypatch.setattr(_Tree, "_ended", lambda _tree, _place, child, _status: reasons.append(child.failure))
    tree, place, child = object.__new__(_Tree), object.__new__(_Place), Dying()
    while not reasons:
        tree._attend(place, child)  # type: ignore[arg-type]
    assert reasons == ["the port is taken"]


def test_a_server_s_reason_is_known_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[Any] = []
    monkeypatch.setattr(_Supervisor, "_ended", lambda _supervisor, server, _status: reasons.append(server.failure))
    supervisor, server = object.__new__(_Supervisor), Dying()
    while not reasons:
        supervisor._attend(server)  # type: ignore[arg-type]
    assert reasons == ["the port is taken"]

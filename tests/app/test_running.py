"""The tests' own servers: no two of them meet on a port."""

import pytest

from tests.running import free_port, own_ports


def test_processes_that_test_beside_each_other_give_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's port is free while it is started again, and another's would be there."""
    seen: list[int] = []
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    for number in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        seen += own_ports()
    assert sorted(seen) == list(range(10_240, 32_768))


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.running.own_ports", lambda: range(20_000, 20_040))
    assert len({free_port() for _ in range(10)}) == 10

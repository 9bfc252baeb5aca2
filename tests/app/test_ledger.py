"""The ledger of a whole server: what it cannot take does not happen, what was cut stays cut."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.api import ENDPOINTS
from ecotone.api.accounts import NewProject, NewToken
from ecotone.api.endpoint import Call, _answered
from ecotone.api.keys import NewKey
from ecotone.api.policy import NewRule
from ecotone.app.services import Services, compose
from ecotone.ledger import LedgerFull
from ecotone.policy import RuleKind
from ecotone.settings import Settings
from ecotone.vocabulary import Mode, Purpose, Role
from tests.running import running

NEW_PROJECT = NewProject(name="p", mode=Mode.RUN, purpose=Purpose.RESEARCH)


@pytest.fixture
def services(tmp_path: Path) -> Any:
    made = compose(Settings(data=tmp_path))
    made.accounts.ensure_admin()
    yield made
    made.ledger_writer.close()
    made.database.dispose()


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ecotone.ledger.writing.os.write", write)


@pytest.mark.parametrize(
    ("act", "body", "kept"),
    [
        (
            "create_project",
            NewProject(name="p", mode=Mode.RUN, purpose=Purpose.RESEARCH),
            lambda s: s.accounts.projects(),
        ),
        ("create_key", NewKey(project="house"), lambda s: s.accounts.keys()),
        ("create_token", NewToken(user="eve", role=Role.ADMIN), lambda s: s.accounts.tokens()),
        ("create_rule", NewRule(kind=RuleKind.HOLD_BACK, subject="*", reason="r"), lambda s: s.policy.rules()),
    ],
)
def test_an_act_that_the_ledger_cannot_take_is_not_done(
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
    body: Any,
    kept: Callable[[Services], list[object]],
) -> None:
    spec = next(e for e in ENDPOINTS if e.handler.__name__ == act)
    before = kept(services)
    with monkeypatch.context() as patch:
        full(patch)
        with pytest.raises(LedgerFull):
            _answered(spec, Call(services=services, actor=SYSTEM, body=body))
    assert kept(services) == before
    _answered(spec, Call(services=services, actor=SYSTEM, body=body))  # space came back
    assert len(kept(services)) == len(before) + 1
    assert services.verify_ledger().ok


def test_every_endpoint_that_changes_something_is_recorded_before(services: Services) -> None:
    changing = {e.handler.__name__ for e in ENDPOINTS if e.method != "GET" and e.need.value in ("write", "admin")}
    assert changing == {e.handler.__name__ for e in ENDPOINTS if e.acts}
    assert {"create_key", "remove_model", "serve_model", "start_tuning"} <= changing


def test_a_tail_that_was_cut_stays_cut_however_the_server_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_CHECKPOINT_SECONDS="0.3") as server:
        for name in ("a", "b", "c", "d"):
            server.told("project", "create", name, "--mode", "run", "--purpose", "research")
        server.stop()
        (segment,) = (server.data / "ledger" / "server").glob("*.jsonl")
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(b"".join(lines[:-4]))
        server.start()
        for name in ("e", "f", "g", "h", "i", "j"):
            server.told("project", "create", name, "--mode", "run", "--purpose", "research")
        server.stop()
        server.start()
        verdict = server.cli("ledger", "verify")
        assert verdict.returncode == 1
        assert "server/" in verdict.stderr and "cut" in verdict.stderr
        assert (server.data / "ledger" / "server2").is_dir(), "the server goes on in a chain of its own"
        assert "was cut or replaced" in server.log


def test_a_folder_among_the_segments_does_not_stop_verification(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        (server.data / "ledger" / "server" / "000002.jsonl").mkdir()
        assert server.told("ledger", "verify")["ok"]

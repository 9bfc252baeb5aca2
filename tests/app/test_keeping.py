"""A whole server's usage, exports, kept texts and full disk, as an operator and an auditor meet them."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.ledger.texts import Texts
from ecotone.settings import Settings
from tests.app.test_full_disk import fill_disk
from tests.demo.provider import Provider
from tests.running import Running, running

pytestmark = pytest.mark.slow

BODY = {"model": "far/gpt", "messages": [{"role": "user", "content": "nobody's business"}]}


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()
    yield found
    found.stop()


def prepared(found: Running, provider: Provider) -> Running:
    found.told("backend", "add", "far", "--url", provider.url, "--key-env", "FAR_API_KEY")
    for project in ("shop", "clinic"):
        found.told("project", "create", project, "--mode", "serve_api", "--purpose", "commercial")
    found.keys = {p: found.told("key", "create", "--project", p)["key"] for p in ("shop", "clinic")}  # type: ignore[attr-defined]
    return found


@pytest.fixture
def server(tmp_path: Path, provider: Provider) -> Iterator[Running]:
    with running(tmp_path, FAR_API_KEY="sk-of-the-provider", ECOTONE_LEDGER_SEGMENT_BYTES="6000") as found:
        yield prepared(found, provider)


def ask(server: Running, project: str = "shop") -> httpx.Response:
    headers = {"authorization": f"Bearer {server.keys[project]}"}  # type: ignore[attr-defined]
    for _ in range(600):
        answer = httpx.post(server.url + "/v1/chat/completions", json=BODY, headers=headers, timeout=120)
        if answer.status_code not in (401, 404):
            break
        time.sleep(0.1)  # the snapshot does not know the key yet
    return answer


def test_usage_is_shown_counted_again_and_the_same(server: Running) -> None:
    for project in ("shop", "shop", "clinic"):
        assert ask(server, project).status_code == 200
    told = server.told("usage", "--by", "project,model,day")
    requests: Counter[str] = Counter()
    for row in told["rows"]:  # more than one of a project where a day began in between
        requests[row["project"]] += row["requests"]
    assert requests == {"shop": 2, "clinic": 1}
    assert told["total"]["prompt_tokens"] == 33
    rebuilt = server.told("usage", "rebuild")
    assert rebuilt["requests"] == 3
    assert server.told("usage", "--by", "project,model,day") == told
    shown = server.cli("usage", "--project", "clinic")
    assert "clinic" in shown.stdout
    assert "shop" not in shown.stdout
    assert "total: 1 requests" in shown.stdout
    wrong = server.cli("usage", "--by", "colour")
    assert wrong.returncode == 1
    assert "'colour' is no group" in wrong.stderr
    assert httpx.get(server.url + "/api/ecotone/v1/usage").status_code == 401


def test_an_auditor_verifies_an_export_without_the_server_and_old_segments_leave_after_it(server: Running) -> None:
    for _ in range(6):
        assert ask(server).status_code == 200
    assert ask(server, "clinic").status_code == 200
    key = server.told("ledger", "key")["key"]
    for extra in ([], ["--project", "clinic"]):
        file = server.folder / f"export{len(extra)}.jsonl"
        done = server.cli("ledger", "export", "--to", str(file), *extra)
        assert done.returncode == 0, done.stderr
    before = server.told("usage")
    files = sorted((server.data / "ledger" / "server").glob("*.jsonl"))
    assert len(files) > 2
    os.utime(files[0], (1_700_000_000, 1_700_000_000))
    told = server.told("ledger", "retire", "--older-than", "30")
    assert told["removed"] == [f"server/{files[0].name}"]
    assert server.told("ledger", "verify")["ok"]
    server.told("usage", "rebuild")
    assert server.told("usage") == before
    server.stop()
    for name in ("export0.jsonl", "export2.jsonl"):
        report = server.told("ledger", "verify", name, "--key", key)
        assert report["ok"]
    text = (server.folder / "export2.jsonl").read_text()
    assert '"shop"' not in text
    (server.folder / "forged.jsonl").write_text(text.replace('"completion_tokens":7', '"completion_tokens":1', 1))
    forged = server.cli("ledger", "verify", "forged.jsonl", "--key", key)
    assert forged.returncode == 1
    assert "was changed" in forged.stderr
    server.start()
    assert server.told("ledger", "verify")["ok"]


def test_who_reads_a_kept_text_is_in_the_ledger_and_who_may_not_reads_nothing(server: Running) -> None:
    server.told("project", "set", "clinic", "--keep-texts", "30d")  # else the upkeep deletes it in its time
    texts = Texts.of(Settings(data=server.data))
    texts.keep("clinic", "req-server-1", json.dumps({"prompt": "p", "answer": "a"}).encode())
    texts.close()
    told = json.loads(server.cli("ledger", "text", "req-server-1").stdout)
    assert told[0]["text"] == {"prompt": "p", "answer": "a"}
    acts = [r for r in records(server) if r.get("act") == "text.read"]
    assert [(r["kind"], r["request_id"]) for r in acts] == [("intent", "req-server-1"), ("admin", "req-server-1")]
    reader = server.told("token", "create", "rita", "--role", "write")["token"]
    refused = server.cli("ledger", "text", "req-server-1", env={"ECOTONE_TOKEN": reader})
    assert refused.returncode == 1
    assert "administrators" in refused.stderr
    assert "No text of 'req-server-2' is kept" in server.cli("ledger", "text", "req-server-2").stderr
    assert server.told("ledger", "destroy-texts", "clinic")["days"] == 1
    assert server.cli("ledger", "text", "req-server-1").returncode == 1


def records(server: Running) -> list[dict[str, Any]]:
    files = sorted((server.data / "ledger" / "server").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def test_a_project_that_did_not_ask_has_no_text_kept(server: Running) -> None:
    assert ask(server).status_code == 200
    assert not (server.data / "texts").exists()


def test_a_full_disk_spills_records_and_answers_go_on_metered(tmp_path: Path, provider: Provider) -> None:
    ledger = tmp_path / "data" / "ledger"
    ledger.mkdir(parents=True)
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(ledger)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    spill = tmp_path / "spill"
    settings = {"ECOTONE_LEDGER_FULL": "spill", "ECOTONE_LEDGER_SPILL": str(spill)}
    try:
        with running(tmp_path, FAR_API_KEY="sk-of-the-provider", **settings) as server:
            prepared(server, provider)
            assert ask(server).status_code == 200
            fill_disk(ledger / "ballast")
            asked = [ask(server) for _ in range(40)]
            assert {answer.status_code for answer in asked} == {200}
            assert list(spill.rglob("spilled.jsonl"))
            told = server.told("why", asked[-1].headers["x-request-id"])
            assert told["status"] == "done"
            (ledger / "ballast").unlink()
            end = time.monotonic() + 120
            while list(spill.rglob("spilled.jsonl")):
                assert time.monotonic() < end
                server.cli("usage")
            assert server.told("ledger", "verify")["ok"]
            assert server.told("usage")["total"]["requests"] == 41
            assert "records go to" in server.log
    finally:
        subprocess.run(["umount", "-l", str(ledger)], check=True)


def test_settings_that_would_lose_records_are_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.stop()
        for settings in ({"ECOTONE_LEDGER_FULL": "spill"}, {"ECOTONE_LEDGER_KEEP_DAYS": "0.5"}):
            done = server.cli("up", env=settings, timeout=120)
            assert done.returncode != 0
            assert next(iter(settings)) in done.stderr

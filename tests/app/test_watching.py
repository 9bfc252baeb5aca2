"""Watching a whole server: figures, pages and traces of calls that real clients made."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import markupsafe
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ecotone.gateway import counters
from ecotone.vocabulary import Verdict
from tests.demo.provider import Provider
from tests.receiver import until
from tests.running import Running, running

SECRET = "a thought of nobody's business"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CALLER = "qzxv"  # letters that no figure has by chance


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    provider = Provider()
    with running(tmp_path_factory.mktemp("watch"), FAR_API_KEY="sk-of-the-provider") as found:
        found.told("backend", "add", "far", "--url", provider.url, "--key-env", "FAR_API_KEY")
        found.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        found.told("route", "set", "assistant", "--to", "far/gpt")
        found.key = found.told("key", "create", "--project", "shop")["key"]  # type: ignore[attr-defined]
        end = time.monotonic() + 120
        while call(found, model="assistant").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        yield found
    provider.stop()


def call(server: Running, key: str = "", **more: Any) -> httpx.Response:
    body = {"model": "far/gpt", "messages": [{"role": "user", "content": SECRET}], "user": f"ann-{CALLER}"} | more
    headers = {"authorization": f"Bearer {key or server.key}", "x-request-id": f"caller-{CALLER}"}  # type: ignore[attr-defined]
    headers["traceparent"] = TRACE
    return httpx.post(server.url + "/v1/chat/completions", json=body, headers=headers, timeout=120)


def figures(server: Running) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of_gateway(server: Running, name: str, **labels: str) -> float:
    found = figures(server).get(f"ecotone_gateway_{name}", {})
    return sum(value for told, value in found.items() if labels.items() <= dict(told).items())


def until_counted(server: Running) -> None:
    """Wait for the calls that were answered already: they are counted when they have ended, which is a moment later."""
    until(lambda: of_gateway(server, "open_calls") == 0)


def test_each_call_is_in_the_metrics_once_with_its_tokens_and_times(server: Running) -> None:
    until_counted(server)
    before = {n: of_gateway(server, n, route="assistant") for n in ("calls_total", "tokens_total")}
    assert [call(server, model="assistant", stream=s).status_code for s in (False, True, False)] == [200] * 3
    until_counted(server)
    assert of_gateway(server, "calls_total", route="assistant", status="done") == before["calls_total"] + 3
    assert of_gateway(server, "calls_total", project="shop", backend="far", model="far/gpt", face="chat") > 3
    assert of_gateway(server, "tokens_total", route="assistant") > before["tokens_total"] + 3
    counted = of_gateway(server, "calls_total")
    for name in ("first_byte_seconds", "call_duration_seconds"):
        assert of_gateway(server, f"{name}_count") == counted
        assert of_gateway(server, f"{name}_bucket", le="+Inf") == counted


def test_no_key_prompt_user_or_made_up_name_is_a_label(server: Running) -> None:
    call(server, model="sk-pasted-into-the-wrong-field")
    call(server, key="eck_made-up")
    call(server, model="far/sk-proj-abcdEFGH1234567890abcdEFGH1234567890")
    call(server, model=f"far/ann-{CALLER}@example.org")
    text = server.http.get("/metrics").text
    key = server.key  # type: ignore[attr-defined]
    wrong = (SECRET, CALLER, "sk-pasted", "sk-proj", "eck_", key, key[4:], "sk-of-the-provider", "sha256")
    assert [word for word in wrong if word in text] == []
    assert of_gateway(server, "refused_total", code="invalid_api_key") >= 1
    assert of_gateway(server, "refused_total", code="privacy_denied") >= 2


def test_the_page_of_traffic_shows_what_passed_and_leads_to_each_request(server: Running) -> None:
    answer = call(server, model="assistant")
    for span in ("hour", "day", "month"):
        for by, name in (("project", "shop"), ("route", "assistant"), ("backend", "far")):
            page = server.http.get(f"/ecotone/traffic?span={span}&by={by}")
            assert page.status_code == 200 and f">{name}</a>" in page.text and page.text.count('<svg class="plot') == 6
    empty = server.http.get("/ecotone/traffic?project=nobody")
    assert "No call ended in this span" in empty.text
    listed = server.http.get("/ecotone/requests?project=shop&route=assistant&ended=well")
    assert f"/ecotone/why/{answer.headers['x-request-id']}" in listed.text
    assert "far/gpt" in listed.text and SECRET not in listed.text
    assert (
        f"/ecotone/why/{answer.headers['x-request-id']}" not in server.http.get("/ecotone/requests?ended=failed").text
    )
    why = server.http.get(f"/ecotone/why/{answer.headers['x-request-id']}").text
    for word in ("Answered.", "shop", "assistant", "far/gpt", "Tokens in", "Knowledge base", "settled, record"):
        assert word in why, word
    assert SECRET not in why


def test_the_page_of_a_request_that_a_budget_refused_tells_which_and_what_to_do(server: Running) -> None:
    server.told("project", "create", "poor", "--mode", "serve_api", "--purpose", "commercial", "--budget", "1USD/month")
    key = server.told("key", "create", "--project", "poor")["key"]

    def refused(code: str) -> httpx.Response | None:
        answer = call(server, key, max_tokens=10**6)
        return answer if answer.status_code == 429 and answer.json()["error"]["code"] == code else None

    unknown = until(lambda: refused("price_unknown"), 60)
    server.told("price", "set", "far/gpt", "--input", "2", "--output", "8")
    try:
        answer = until(lambda: refused("budget_exceeded"), 60)
    finally:
        server.told("price", "remove", "far/gpt")
    own = answer.headers["x-request-id"]
    page = server.http.get(f"/ecotone/why/{own}").text
    for word in (
        "Refused by a budget", "the project poor", "1 USD for the month", "Opens again", "an administrator, with",
        "/ecotone/projects/poor",
    ):  # fmt: skip
        assert word in page, word
    assert "None is in the record" not in page
    assert "`ecotone price set far/gpt" in server.http.get(f"/ecotone/why/{unknown.headers['x-request-id']}").text
    told = server.cli("why", own).stdout
    assert "scope=project:poor" in told and "budget_exceeded" in told and "opens=" in told
    assert of_gateway(server, "refused_total", code="budget_exceeded") >= 1


def test_traffic_is_for_administrators_and_for_whoever_made_a_project(server: Running) -> None:
    token = server.told("token", "create", "ann", "--role", "write")["token"]
    for path in ("/ecotone/traffic", "/ecotone/requests"):
        assert httpx.get(server.url + path, headers={"authorization": f"Bearer {token}"}).status_code == 403
        assert httpx.get(server.url + path).status_code == 403
    server.told("project", "create", "anns", "--mode", "run", "--purpose", "research", "--owner", "ann")
    key = server.told("key", "create", "--project", "anns")["key"]
    end = time.monotonic() + 120
    while call(server, key=key).status_code == 401:
        assert time.monotonic() < end
        time.sleep(0.1)
    for path in ("/ecotone/traffic", "/ecotone/requests"):
        page = httpx.get(server.url + path, headers={"authorization": f"Bearer {token}"})
        assert page.status_code == 200 and "shop" not in page.text, "of another project not even its name"


def test_traffic_outlives_a_restart_and_a_kill(server: Running) -> None:
    page = "/ecotone/traffic?span=month&by=project"
    call(server)
    until_counted(server)
    before = requests_told(server.http.get(page).text)
    assert before > 0
    assert server.stop() == 0
    server.start()
    until(lambda: requests_told(server.http.get(page).text) == before)
    end = time.monotonic() + 120
    while call(server).status_code != 200:
        assert time.monotonic() < end
    until_counted(server)
    after = requests_told(server.http.get(page).text)
    assert after > before
    until(lambda: saved(server) == after - before)  # once a second, or when the machine comes to it
    server.kill()
    server.start()
    until(lambda: requests_told(server.http.get(page).text) == after)


def saved(server: Running) -> int:
    """Calls that the server's process has counted since it began, as they lie on the disk."""
    return sum(cell[counters.REQUESTS] for kept in counters.load(server.data).values() for cell in kept.cells.values())


def requests_told(page: str) -> int:
    return int(page.split("<dt>Requests</dt><dd>")[1].split("<")[0].replace(",", ""))


def test_the_server_sends_traces_where_a_collector_is_named(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.proto", reason="needs OpenTelemetry's messages: pip install 'ecotone[otel]'")
    from tests.app.test_traces import Collector, told

    collector, provider = Collector(), Provider()
    settings = {"ECOTONE_OTLP_ENDPOINT": collector.url, "ECOTONE_TRACES_SHARE": "1", "FAR_API_KEY": "sk-x"}
    with running(tmp_path, **settings) as found:
        found.told("backend", "add", "far", "--url", provider.url, "--key-env", "FAR_API_KEY")
        found.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        found.key = found.told("key", "create", "--project", "shop")["key"]  # type: ignore[attr-defined]
        end = time.monotonic() + 120
        while (answer := call(found)).status_code != 200 or not (found.data / "traces.json").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        answer = call(found)
        spans = collector.wait(answer.headers["x-request-id"])
        assert (spans[0].trace_id.hex(), spans[0].parent_span_id.hex()) == (TRACE[3:35], TRACE[36:52]), "the caller's"
        attempt = told(spans[1])
        assert attempt["server.address"] == "127.0.0.1" and attempt["gen_ai.response.model"] == "gpt"
        assert attempt["gen_ai.provider.name"] == "far" and attempt["gen_ai.usage.output_tokens"] > 0
        assert told(spans[0])["ecotone.decision"] in {str(verdict) for verdict in Verdict}
        assert SECRET not in str(collector.spans) and CALLER not in str(collector.spans)
        children = Path(f"/proc/{found.server_pid}/task/{found.server_pid}/children").read_text().split()
        assert any("ecotone.app.tracing" in Path(f"/proc/{c}/cmdline").read_text() for c in children)
        found.kill()
    collector.stop()
    provider.stop()
    end = time.monotonic() + 120
    while alive := [c for c in children if Path(f"/proc/{c}").exists()]:
        assert time.monotonic() < end, f"orphans: {alive}"
        time.sleep(0.1)


def asked(server: Running, path: str = "", **fields: str) -> httpx.Response:
    told = {"project": "shop", "a": "assistant", "b": "far/gpt", "prompt": SECRET} | fields
    return server.http.post(f"/ecotone/playground{path}", data=told)


def test_the_playground_asks_both_models_as_the_project_and_tells_verdict_price_and_request(server: Running) -> None:
    until_counted(server)
    before = of_gateway(server, "calls_total", project="shop")
    page = asked(server)
    assert (
        page.status_code == 200 and page.text.count(f'aria-label="Answer">You said: {markupsafe.escape(SECRET)}') == 2
    )
    assert page.text.count('data-told="verdict_word">Not known<') == page.text.count("allowed by rule") == 2
    until_counted(server)
    for word in ("First token", "tokens a second", "11 in, 7 out", 'data-told="price">not known<'):
        assert word in page.text
    links = set(re.findall(r'href="/ecotone/why/(req-[^"]+)"', page.text))
    assert len(links) == 2
    whys = [server.http.get(f"/ecotone/why/{link}").text for link in links]
    assert all("shop" in why and "far/gpt" in why and SECRET not in why for why in whys)
    assert of_gateway(server, "calls_total", project="shop") == before + 2
    keys = [k for k in server.told("key", "list", "--project", "shop") if k.get("tags") == ["playground"]]
    assert len(keys) == 1 and keys[0]["expires"]


def test_the_playground_streams_and_says_what_is_wrong(server: Running) -> None:
    lines = [json.loads(line) for line in asked(server, "/answer", side="b").text.splitlines()]
    assert "".join(line.get("text", "") for line in lines) == lines[-1]["told"]["text"] != ""
    assert len(lines) > 2 and lines[-1]["told"]["request_id"]
    unknown = json.loads(asked(server, "/answer", side="a", a="nobody/knows").text)["told"]
    assert "nobody/knows" in unknown["problem"] and not unknown["text"]
    for fields, word in (({"a": "", "b": ""}, "at least one model"), ({"prompt": " "}, "something to ask")):
        page = asked(server, **fields)
        assert page.status_code == 400 and word in page.text
    assert "0 to 2" in asked(server, temperature="7").text
    stranger = httpx.get(server.url + "/ecotone/playground")
    assert stranger.status_code == 403 and "log in" in stranger.text


def test_who_forgot_v1_is_told_so_on_the_port_of_the_pages(server: Running) -> None:
    headers = {"authorization": f"Bearer {server.key}"}  # type: ignore[attr-defined]
    with httpx.Client(base_url=server.url, headers=headers) as client:
        for _ in range(2):
            answer = client.post("/chat/completions", json={"model": "far/gpt"})
            assert answer.status_code == 404 and "ends with /v1" in answer.json()["error"]["message"]
            assert client.get("/").headers["content-type"].startswith("text/html")


def test_how_often_clients_repeat_themselves_is_a_figure(server: Running) -> None:
    until_counted(server)
    before = of_gateway(server, "client_retries_total")
    body = {"model": "far/gpt", "messages": [{"role": "user", "content": "Hello"}]}
    for told in ("0", "1", "2", "0"):
        headers = {"authorization": f"Bearer {server.key}", "x-stainless-retry-count": told}  # type: ignore[attr-defined]
        assert httpx.post(server.url + "/v1/chat/completions", json=body, headers=headers).status_code == 200
    until_counted(server)
    assert of_gateway(server, "client_retries_total") == before + 2

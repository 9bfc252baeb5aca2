"""The pages of deployments: what runs and how it does, to users; the log and the forms, to administrators."""

from typing import Any

import httpx
import pytest

from tests.web.conftest import ADMIN


@pytest.fixture
def admin(server: Any) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=120)


@pytest.fixture
def reader(server: Any) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.services.reader}"}, timeout=120)


def test_a_user_sees_state_throughput_memory_and_when_it_is_unloaded(reader: httpx.Client) -> None:
    page = reader.get("/ecotone/deployments").text
    for word in ("demo/bert-atlas", "1 of 2", "1,234/s", "390 MB", "in 12:34", "int8"):
        assert word in page
    assert "Serve a model" not in page
    one = reader.get("/ecotone/deployments/demo/bert-atlas").text
    for word in ("reads weights, 40 %", "died &lt;i&gt;", "argmax agreement", "0.998", "64 tokens"):
        assert word in one
    assert "INFO &lt;b&gt;loaded" not in one and "danger" not in one


def test_the_log_and_the_forms_are_for_administrators_and_nothing_in_a_log_is_markup(admin: httpx.Client) -> None:
    one = admin.get("/ecotone/deployments/demo/bert-atlas").text
    assert one.count("INFO &lt;b&gt;loaded") == 200 and "<b>loaded" not in one
    wrong = admin.post("/ecotone/deployments", data={"model": "demo/none"})
    assert wrong.status_code == 400 and "demo/none" in wrong.text
    wrong = admin.post("/ecotone/deployments", data={"model": "demo/bert-atlas", "replicas": "many"})
    assert wrong.status_code == 400 and "whole number" in wrong.text


def test_strangers_and_readers_change_and_learn_nothing(server: Any, reader: httpx.Client) -> None:
    assert server.http.get("/ecotone/deployments").status_code == 403
    assert server.http.get("/ecotone/deployments/demo/bert-atlas").status_code == 403
    assert reader.post("/ecotone/deployments", data={"model": "demo/bert-atlas"}).status_code == 403
    assert reader.post("/ecotone/deployments/demo/bert-atlas", data={"act": "stop"}).status_code == 403
    assert reader.get("/ecotone/deployments/demo/secret").status_code == 404


def test_the_model_page_tells_what_smaller_weights_cost(reader: httpx.Client) -> None:
    page = reader.get("/demo/bert-atlas").text
    assert "Served with int8 weights" in page and "argmax agreement 0.998" in page

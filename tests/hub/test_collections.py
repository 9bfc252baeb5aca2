"""Collections through the unmodified client: what somebody gathers is kept, in order, and shown to whom it may be."""

import re
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def will(server: SimpleNamespace) -> HfApi:
    return HfApi(endpoint=server.url, token="ect_writer")


@pytest.fixture
def as_will(server: SimpleNamespace) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_writer"}, timeout=120) as http:
        yield http


def title() -> str:
    return f"Shelf {time.monotonic_ns()}"


def repos(api: Any, *names: str, **how: Any) -> list[str]:
    made = [f"shelf/{name}-{time.monotonic_ns()}" for name in names]
    for name in made:
        api.create_repo(name, **how)
    return made


def test_a_collection_is_made_filled_ordered_changed_and_deleted(api: Any, will: HfApi) -> None:
    first, second = repos(api, "one", "two")
    (rows,) = repos(api, "rows", repo_type="dataset")
    named = title()
    made = will.create_collection(named, description="What I use", private=False)
    assert re.fullmatch(r"will/shelf-\d+-[0-9a-f]{24}", made.slug) and made.owner["name"] == "will"
    assert will.create_collection(named, exists_ok=True).slug == made.slug
    with pytest.raises(HfHubHTTPError, match="409"):
        will.create_collection(named.upper())
    for name, kind in ((first, "model"), (rows, "dataset"), (second, "model")):
        whole = will.add_collection_item(made.slug, name, kind, note=f"about {name}")
    assert [(i.item_id, i.item_type, i.position) for i in whole.items] == [
        (first, "model", 0), (rows, "dataset", 1), (second, "model", 2),
    ]  # fmt: skip
    with pytest.raises(HfHubHTTPError, match="409"):
        will.add_collection_item(made.slug, first, "model")
    assert will.add_collection_item(made.slug, first, "model", exists_ok=True).slug == made.slug
    will.update_collection_item(made.slug, whole.items[2].item_object_id, note="first now", position=0)
    now = will.get_collection(made.slug)
    assert [(i.item_id, i.note) for i in now.items][:2] == [(second, "first now"), (first, f"about {first}")]
    will.delete_collection_item(made.slug, whole.items[0].item_object_id)
    will.delete_collection_item(made.slug, whole.items[0].item_object_id, missing_ok=True)
    changed = will.update_collection_metadata(made.slug, title="Renamed", theme="pink", private=False, position=3)
    assert changed.slug.startswith("will/renamed-") and (changed.theme, changed.position) == ("pink", 3)
    assert will.get_collection(made.slug).title == "Renamed", "an address with the old words is still good"
    outer = will.create_collection(title())
    nested = will.add_collection_item(outer.slug, changed.slug, "collection")
    assert nested.items[0].item_id == changed.slug
    will.delete_collection(made.slug)
    will.delete_collection(made.slug, missing_ok=True)
    with pytest.raises(HfHubHTTPError, match="404"):
        will.get_collection(made.slug)
    assert will.get_collection(outer.slug).items == []


def test_lists_are_found_by_owner_and_item_and_come_in_pages_without_a_position(
    server: SimpleNamespace, api: Any, will: HfApi
) -> None:
    (name,) = repos(api, "listed")
    slugs = [will.create_collection(title()).slug for _ in range(5)]
    for slug in slugs[:3]:
        will.add_collection_item(slug, name, "model")
    found = list(will.list_collections(item=f"models/{name}"))
    assert {c.slug for c in found} == set(slugs[:3])
    assert set(slugs) <= {c.slug for c in will.list_collections(owner="will")}
    pages, url = [], f"{server.url}/api/collections?owner=will&limit=2&sort=trending"
    while url:
        answer = httpx.get(url)
        pages.append(answer.json())
        url = answer.links.get("next", {}).get("url", "")
    rows = [row for page in pages for row in page]
    assert len(pages) >= 3 and all(len(page) <= 2 for page in pages)
    assert len({row["slug"] for row in rows}) == len(rows) >= 5
    wanted = {"slug", "title", "owner", "items", "lastUpdated", "private", "theme", "upvotes"}
    assert all(wanted <= set(row) and "position" not in row for row in rows)
    assert httpx.get(f"{server.url}/api/collections?item=models/none/such").json() == []
    assert httpx.get(f"{server.url}/api/collections?sort=nonsense").status_code == 400
    assert httpx.get(f"{server.url}/api/collections?cursor=x").status_code == 400


def test_a_private_collection_and_an_absent_one_give_one_answer(server: SimpleNamespace, will: HfApi) -> None:
    hidden = will.create_collection(title(), private=True).slug
    absent = hidden[:-24] + "0" * 24
    for token in (None, "ect_reader", "ect_other"):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=server.url, headers=headers) as http:
            for method, path, body in (
                ("GET", "", None),
                ("PATCH", "", {"title": "mine"}),
                ("DELETE", "", None),
                ("POST", "/items", {"item": {"id": "a/b", "type": "model"}}),
                ("PATCH", "/items/" + "0" * 24, {"note": "x"}),
                ("DELETE", "/items/" + "0" * 24, None),
            ):
                seen = []
                for slug in (hidden, absent):
                    answer = http.request(method, f"/api/collections/{slug}{path}", json=body)
                    kept = {
                        k: v.replace(slug, "") for k, v in answer.headers.items() if k not in ("date", "content-length")
                    }
                    seen.append((answer.status_code, answer.text.replace(slug, ""), kept))
                assert seen[0] == seen[1], (method, path, token)
                assert seen[0][0] == (401 if token is None and method != "GET" else 404)
            assert hidden not in http.get("/api/collections?owner=will&limit=100").text
    assert will.get_collection(hidden).private is True


def test_items_that_a_viewer_may_not_see_are_left_out_and_leave_no_gap(
    server: SimpleNamespace, api: Any, will: HfApi
) -> None:
    first, last = repos(api, "open-a", "open-b")
    (secret,) = repos(api, "secret", private=True)
    slug = will.create_collection(title()).slug
    for name in (first, secret, last):
        will.add_collection_item(slug, name, "model")
    stranger = HfApi(endpoint=server.url, token=False)
    assert [(i.item_id, i.position) for i in stranger.get_collection(slug).items] == [(first, 0), (last, 1)]
    assert secret not in httpx.get(f"{server.url}/api/collections?owner=will&limit=100").text
    assert list(stranger.list_collections(item=f"models/{secret}")) == []
    assert [i.item_id for i in will.get_collection(slug).items] == [first, secret, last]
    api.delete_repo(first)
    assert [i.item_id for i in will.get_collection(slug).items] == [secret, last]


def test_two_who_add_the_same_item_at_once_get_one_place(as_will: httpx.Client, api: Any) -> None:
    (name,) = repos(api, "raced")
    slug = as_will.post("/api/collections", json={"title": title(), "namespace": "will"}).json()["slug"]
    answers: list[int] = []

    def add() -> None:
        body = {"item": {"id": name, "type": "model"}}
        answers.append(as_will.post(f"/api/collections/{slug}/items", json=body).status_code)

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [409] * 5
    assert len(as_will.get(f"/api/collections/{slug}").json()["items"]) == 1


def test_what_is_hostile_or_too_large_is_refused_with_a_sentence(as_will: httpx.Client) -> None:
    made = as_will.post("/api/collections", json={"title": "<script>\u202e\x00 a\nb", "namespace": "will"})
    assert made.status_code == 200 and made.json()["title"] == "<script> a b"
    slug = made.json()["slug"]
    assert as_will.post("/api/collections", json={"title": "日本", "namespace": "will"}).json()["slug"].count("/") == 1
    for body in (
        {"title": "", "namespace": "will"},
        {"title": "\u200b", "namespace": "will"},
        {"title": "x" * 101, "namespace": "will"},
        {"title": "x", "namespace": "../etc"},
        {"title": "x", "namespace": "api"},
        {"namespace": "will"},
        {"title": ["x"], "namespace": "will"},
    ):
        assert as_will.post("/api/collections", json=body).status_code == 400, body
    assert as_will.post("/api/collections", content=b"x" * 70_000).status_code == 413
    for namespace in ("wanda", "never-made", "meta-llama"):
        answer = as_will.post("/api/collections", json={"title": "x", "namespace": namespace})
        assert answer.status_code == 403, namespace
    for kind in ("paper", "bucket", "kernel"):
        answer = as_will.post(f"/api/collections/{slug}/items", json={"item": {"id": "2307.09288", "type": kind}})
        assert answer.status_code == 400 and "model, dataset, space" in answer.json()["error"]
    for name in ("no/such", "../..", "x", "a/b/c"):
        assert (
            as_will.post(f"/api/collections/{slug}/items", json={"item": {"id": name, "type": "model"}}).status_code
            == 404
        )
    itself = {"item": {"id": slug, "type": "collection"}}
    assert as_will.post(f"/api/collections/{slug}/items", json=itself).status_code == 404


def test_only_who_made_a_public_collection_or_an_administrator_changes_it(
    server: SimpleNamespace, will: HfApi, as_admin: httpx.Client
) -> None:
    slug = will.create_collection(title()).slug
    for token, status in (("ect_other", 403), ("ect_reader", 403)):
        answer = httpx.patch(
            f"{server.url}/api/collections/{slug}", json={"title": "x"}, headers={"authorization": f"Bearer {token}"}
        )
        assert answer.status_code == status
    assert httpx.delete(f"{server.url}/api/collections/{slug}").status_code == 401
    assert as_admin.patch(f"/api/collections/{slug}", json={"description": "kept"}).status_code == 200

"""Lists of repositories: each parameter narrows them, pages stay in place while others write."""

import json
import re
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.hub.test_repositories import as_user, large, sent, weights
from tests.hub.test_wire import add, commit


@pytest.fixture(scope="module")
def shelf(server: SimpleNamespace) -> str:
    """Five models whose names hold `shelf`, told apart by tags, sizes, gates and likes."""
    http = as_user(server, "ect_admin")
    cards = {
        "one": b"---\nlicense: mit\nlanguage: [en, de]\npipeline_tag: text-generation\ndatasets: [squad]\n---\n# One\n",
        "two": b"---\nlicense: apache-2.0\nlanguage: en\nlibrary_name: transformers\n---\n# Two\n",
        "three": b"---\nlicense: mit\ntags: [medical]\n---\n# Three\n",
        "four": b"# Four\n",
        "five": b"# Five\n",
    }
    for number, (name, card) in enumerate(cards.items()):
        repo = f"shelf/{name}"
        http.post("/api/repos/create", json={"name": repo})
        lines = [add("README.md", card)]
        if name != "five":
            data = weights(10 ** (number + 1))
            lines.append(large("model.safetensors", sent(server, "shelf", data)))
        if name == "four":
            lines.append(add("x.gguf", b"no real one"))
        assert commit(http, repo, *lines).status_code == 200
    http.put("/api/models/shelf/two/settings", json={"gated": "auto"})
    for token in ("ect_admin", "ect_reader"):
        as_user(server, token).post("/api/models/shelf/three/like")
    http.post("/api/models/shelf/one/like")
    return "shelf"


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"search": ["shelf", "one"]}, "one"),
        ({"search": "SHELF/T"}, "two three"),
        ({"filter": "license:mit"}, "one three"),
        ({"filter": ["license:mit", "medical"]}, "three"),
        ({"filter": "license:mit,medical"}, "three"),
        ({"filter": "language:en"}, "one two"),
        ({"filter": "dataset:squad"}, "one"),
        ({"pipeline_tag": "text-generation"}, "one"),
        ({"apps": "vllm"}, "one two three four"),
        ({"apps": "ollama"}, "four"),
        ({"gated": "True"}, "two"),
        ({"gated": "false"}, "one three four five"),
        ({"num_parameters": "min:100"}, "two three four"),
        ({"num_parameters": "min:100,max:1K"}, "two three"),
        ({"num_parameters": "max:0.00001M"}, "one"),
        ({"inference": "warm"}, ""),
        ({"inference_provider": "all"}, ""),
        ({"inference_provider": "elsewhere"}, ""),
        ({"author": "SHELF"}, "one two three four five"),
        ({"author": "shel"}, ""),
    ],
)
def test_each_parameter_of_a_list_narrows_it(
    server: SimpleNamespace, shelf: str, params: dict[str, Any], names: str
) -> None:
    found = server.http.get("/api/models", params={"author": shelf, **params})
    assert {m["id"] for m in found.json()} == {f"shelf/{name}" for name in names.split()}


def test_lists_are_ordered_both_ways(server: SimpleNamespace, shelf: str) -> None:
    def ids(**params: Any) -> list[str]:
        answer = server.http.get("/api/models", params={"author": shelf, "limit": 2, **params})
        found = [m["id"].removeprefix("shelf/") for m in answer.json()]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        while link:
            answer = server.http.get(link[1])
            assert len(answer.json()) <= 2
            found += [m["id"].removeprefix("shelf/") for m in answer.json()]
            link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        return found

    assert ids(sort="likes")[:2] == ["three", "one"]
    assert ids(sort="likes", direction=-1) == ids(sort="likes")
    assert ids(sort="likes", direction=1)[-2:] == ["one", "three"]
    assert ids(sort="createdAt", direction="1") == ["one", "two", "three", "four", "five"]
    assert ids(sort="createdAt") == ["five", "four", "three", "two", "one"]
    assert sorted(ids(sort="lastModified")) == sorted(ids(sort="trendingScore"))
    assert ids(gated="false", sort="createdAt") == ["five", "four", "three", "one"]


def test_what_is_made_meanwhile_moves_no_page(server: SimpleNamespace, as_admin: httpx.Client) -> None:
    for n in range(6):
        as_admin.post("/api/repos/create", json={"name": f"pages/m{n}"})
    url, seen, made = "/api/models?author=pages&sort=createdAt&limit=2", [], 0
    while url:
        answer = server.http.get(url)
        seen += [m["id"] for m in answer.json()]
        as_admin.post("/api/repos/create", json={"name": f"pages/new{made}"})
        made += 1
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        url = link[1] if link else ""
    assert seen == [f"pages/m{n}" for n in reversed(range(6))]


def test_pages_of_commits_and_trees_stay_with_their_commit(as_admin: httpx.Client, repo: str) -> None:
    for n in range(4):
        commit(as_admin, repo, add(f"{n}.txt"))
    for path in (f"/api/models/{repo}/commits/main?limit=2", f"/api/models/{repo}/tree/main?limit=2"):
        whole = as_admin.get(path.replace("limit=2", "limit=100")).json()
        url, seen = path, []
        while url:
            answer = as_admin.get(url)
            seen += answer.json()
            commit(as_admin, repo, add("0-new.txt", str(len(seen)).encode() + path.encode()))
            link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
            url = link[1] if link else ""
        assert seen == whole


def test_full_and_expanded_rows(server: SimpleNamespace, shelf: str) -> None:
    full = server.http.get("/api/models", params={"author": shelf, "full": "True", "search": "one"}).json()[0]
    assert {s["rfilename"] for s in full["siblings"]} == {".gitattributes", "README.md", "model.safetensors"}
    assert full["cardData"]["license"] == "mit" and full["safetensors"]["total"] == 10
    asked = {"author": shelf, "search": "one", "expand": ["siblings", "usedStorage", "gated"]}
    row = server.http.get("/api/models", params=asked).json()[0]
    assert row.keys() == {"_id", "id", "siblings", "usedStorage", "gated"}
    assert row["usedStorage"] > 100


def test_tags_are_those_of_the_catalogue(server: SimpleNamespace, as_admin: httpx.Client, shelf: str) -> None:
    as_admin.post("/api/repos/create", json={"name": "shelf/private", "visibility": "private"})
    commit(as_admin, "shelf/private", add("README.md", b"---\ntags: [hush-hush]\n---\n"))
    groups = server.http.get("/api/models-tags-by-type").json()
    assert {"id": "license:mit", "label": "mit", "type": "license"} in groups["license"]
    assert {"id": "text-generation", "label": "text-generation", "type": "pipeline_tag"} in groups["pipeline_tag"]
    assert "en" in [tag["id"] for tag in groups["language"]] and "medical" in [tag["id"] for tag in groups["other"]]
    assert "transformers" in [tag["id"] for tag in groups["library"]]
    assert "hush-hush" not in json.dumps(groups)
    assert "hush-hush" in as_admin.get("/api/models-tags-by-type").text


@pytest.mark.parametrize(
    "params",
    [{"num_parameters": "6B"}, {"num_parameters": "min:x"}, {"num_parameters": "min:" + "9" * 400},
     {"gated": "perhaps"}, {"sort": "none"}, {"inference": "cold"}, {"cursor": "x"}, {"limit": "many"}],
)  # fmt: skip
def test_a_parameter_that_means_nothing_is_named(server: SimpleNamespace, params: dict[str, str]) -> None:
    answer = server.http.get("/api/models", params=params)
    assert answer.status_code == 400 and next(iter(params)) in answer.json()["error"]


def test_own_repositories_come_in_pages_with_their_size(
    server: SimpleNamespace, as_admin: httpx.Client, shelf: str
) -> None:
    url, rows = "/api/organizations/shelf/settings/repositories?limit=2", []
    while url:
        answer = as_admin.get(url)
        rows += answer.json()
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        url = link[1] if link else ""
    sizes = {row["id"]: row["storage"] for row in rows}
    assert sizes["shelf/three"] > 1000 and all(row["visibility"] and row["updatedAt"] for row in rows)
    assert server.http.get("/api/settings/repositories").status_code == 401


def test_likers_and_likes_come_in_pages(server: SimpleNamespace, shelf: str) -> None:
    first = server.http.get("/api/models/shelf/three/likers?limit=1")
    link = re.fullmatch(r'<([^>]+)>; rel="next"', first.headers["link"])
    assert link and {u["user"] for u in first.json() + server.http.get(link[1]).json()} == {"ecotone", "rita"}
    liked = server.http.get("/api/users/ecotone/likes?limit=1")
    link = re.fullmatch(r'<([^>]+)>; rel="next"', liked.headers["link"])
    names = [r["repo"]["name"] for r in liked.json() + server.http.get(link[1]).json()] if link else []
    assert names == ["shelf/three", "shelf/one"]

"""Bodies made to cost much: cards, commits and lists that are refused, or done, in bounded time and memory."""

import base64
import json
import time
import tracemalloc
from types import SimpleNamespace

import httpx
import pytest

from ecotone.catalog.cards import parse
from ecotone.catalog.errors import BadCard
from ecotone.publishing.changes import AddRegular, Delete, DeleteFolder, Operation
from ecotone.publishing.drafts import draft
from tests.hub.test_wire import add, commit

SECONDS = 20.0
BYTES = 256 * 1024 * 1024
LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
CARDS = {
    "a bomb of aliases": LAUGHS,
    "a loop": "a: &a [*a]\n",
    "a merge of aliases": "a: &a {x: 1}\nb: {<<: [*a, *a]}\n",
    "a huge integer": "a: " + "9" * 500_000 + "\n",
    "a tagged integer": "a: !!int " + "9" * 500_000 + "\n",
    "a number in base sixty": "a: !!float " + "1:" * 100_000 + "1\n",
    "a huge exponent": "a: 1e" + "9" * 1000 + "\n",
    "deep lists": "a: " + "[" * 100_000 + "\n",
    "deep maps": "".join(" " * n + "a:\n" for n in range(1000)),
    "deep keys": "? " * 50_000 + "a\n",
    "many keys": "".join(f"k{n}: 1\n" for n in range(90_000)),
    "one key many times": "k: 1\n" * 90_000,
    "a list as a key": "? [a, b]\n: 1\n",
    "a python object": "a: !!python/object/apply:os.system [echo]\n",
    "a set": "a: !!set {x, y}\n",
    "bytes": "a: !!binary " + "QUFB" * 200_000 + "\n",
    "a date that is none": "a: !!timestamp 9999-99-99\n",
    "pairs": "a: !!pairs [" + "[x: 1]," * 20_000 + "]\n",
    "a long text": "a: '" + "x" * 1_000_000 + "'\n",
    "many documents": "--- a\n" * 100_000,
    "directives": "%YAML 9.9\n" * 100_000,
    "NUL and half surrogates": 'a: "\\0\\uD800"\n',
    "tabs and colons": "\t:" * 300_000 + "\n",
    "no end": "a: 1\n" * 300_000,
}


@pytest.mark.parametrize("name", CARDS)
def test_a_hostile_card_costs_no_more_than_a_long_one(server: SimpleNamespace, name: str) -> None:
    content = f"---\n{CARDS[name]}---\n# A\n" if name != "no end" else f"---\n{CARDS[name]}"
    begun = time.process_time()  # the server runs in this process
    answer = server.http.post("/api/validate-yaml", json={"content": content, "repoType": "model"})
    assert time.process_time() - begun < SECONDS
    assert answer.status_code in (200, 400) and isinstance(answer.json()["errors"], list), answer.text[:500]
    tracemalloc.start()
    try:
        parse(content)
    except BadCard as error:
        assert len(error.message) < 1000
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < BYTES


@pytest.mark.parametrize("body", [{}, {"content": 1}, {"content": "x", "repoType": "planet"}, [], "x"])
def test_what_is_no_card_is_refused_in_json(server: SimpleNamespace, body: object) -> None:
    answer = server.http.post("/api/validate-yaml", json=body)
    assert answer.status_code == 400 and answer.json()["error"]


def test_a_commit_of_25000_operations_is_one_commit(as_admin: httpx.Client, repo: str) -> None:
    """Twelve thousand files come and go in one; one operation more is refused before anything is done."""
    value = {"content": base64.b64encode(b"the same").decode(), "encoding": "base64"}
    lines = [{"key": "file", "value": value | {"path": f"d{n % 500}/{n}.txt"}} for n in range(24_500)]
    lines += [{"key": "deletedFolder", "value": {"path": f"d{n}"}} for n in range(499)]
    begun = time.process_time()
    done = commit(as_admin, repo, *lines)
    assert done.status_code == 200 and time.process_time() - begun < 60, done.text
    assert len(as_admin.get(f"/api/models/{repo}/tree/main?recursive=1").json()) == 2 + 49
    over = commit(as_admin, repo, *lines, *(add(f"x{n}") for n in range(2)))
    assert over.status_code == 413 and "25000" in over.json()["error"]


def test_thousands_of_folders_are_deleted_from_a_large_tree_in_seconds(house: SimpleNamespace) -> None:
    content = house.storage.put_regular(b"x")
    from ecotone.catalog import File

    base = {f"d{n // 10}/e/{n}.txt": File(f"d{n // 10}/e/{n}.txt", content, "c") for n in range(150_000)}
    operations: list[Operation] = [DeleteFolder(f"d{n}") for n in range(12_000)]
    operations += [Delete(f"d{n}/e/{n}0.txt") for n in range(12_000, 14_000)]
    operations.append(AddRegular("d0", b"a file where a folder was"))
    begun = time.process_time()
    made = draft(base, operations, house.storage, "demo", model_id="demo/x", at="0" * 40)
    assert time.process_time() - begun < 15
    assert len(made.files) == 150_000 - 120_000 - 2_000 + 1 and "d0" in made.files


def test_bodies_beyond_every_bound_are_refused_early(as_admin: httpx.Client, repo: str) -> None:
    cases = {
        "paths-info/main": {"paths": ["x"] * 1001},
        "preupload/main": {"files": [{"path": "x"}] * 257},
        "lfs-files/batch": {"deletions": {"sha": ["0" * 64] * 1001}},
        "lfs-files/duplicate": {"target": {"name": repo}, "files": [{"sha256": "0" * 64}] * 1001},
    }
    for path, body in cases.items():
        answer = as_admin.post(f"/api/models/{repo}/{path}", json=body)
        assert answer.status_code == 413 and answer.json()["error"], path
    long = as_admin.post(f"/api/models/{repo}/tag/main", content=json.dumps({"tag": "x" * 17 * 1024 * 1024}))
    assert long.status_code == 413

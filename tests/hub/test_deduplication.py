"""What a namespace has need not be sent again, and nobody else learns that it is there."""

import os
import random
import struct
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
from blake3 import blake3

from ecotone.accounts import SYSTEM
from ecotone.catalog.living import Living
from ecotone.storage import hashes, shards
from ecotone.storage.collecting import Collector

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo(sys.argv[1], exist_ok=True)
api.upload_file(path_or_fileobj=sys.argv[2], path_in_repo="model.bin", repo_id=sys.argv[1])
"""


def upload(server: SimpleNamespace, repo: str, path: Path, home: Path, token: str = "ect_admin") -> None:
    """By a client that remembers nothing."""
    env = os.environ | {"HF_ENDPOINT": server.url, "HF_TOKEN": token, "HF_HOME": str(home)}
    subprocess.run([sys.executable, "-c", UPLOAD, repo, str(path)], env=env, check=True, capture_output=True)


def stored(server: SimpleNamespace) -> int:
    return sum(found.size for found in server.services.storage.objects.listed("xorbs"))


def cas(server: SimpleNamespace, repo: str, operation: str, token: str = "ect_admin") -> httpx.Client:
    told = httpx.get(
        f"{server.url}/api/models/{repo}/xet-{operation}-token/main", headers={"authorization": f"Bearer {token}"}
    ).json()
    return httpx.Client(base_url=told["casUrl"], headers={"authorization": f"Bearer {told['accessToken']}"})


def first_chunk(server: SimpleNamespace, repo: str) -> bytes:
    storage = server.services.storage
    row = httpx.get(f"{server.url}/api/models/{repo}/tree/main", headers={"authorization": "Bearer ect_admin"}).json()
    name = next(r["xetHash"] for r in row if r["path"] == "model.bin")
    term = storage.xet.file(repo.partition("/")[0], name).terms[0]
    found: bytes = storage.xet.index(term.xorb).chunk_hashes(term.start, term.start + 1)
    return found


def test_a_new_client_sends_only_what_is_new(server: SimpleNamespace, tmp_path: Path) -> None:
    data = random.Random(7).randbytes(20_000_000)  # where chunks end again decides how much is new
    tmp_path.joinpath("one").write_bytes(data)
    tmp_path.joinpath("two").write_bytes(data[:10_000_000] + bytes(1024) + data[10_000_000:])
    upload(server, "dedup/one", tmp_path / "one", tmp_path / "home-1")
    before = stored(server)
    assert before >= len(data)
    upload(server, "dedup/two", tmp_path / "two", tmp_path / "home-2")
    assert stored(server) - before < 0.03 * len(data)
    at = f"{server.url}/dedup/two/resolve/main/model.bin"
    got = httpx.get(at, headers={"authorization": "Bearer ect_admin"}).content
    assert got == tmp_path.joinpath("two").read_bytes()


def test_a_chunk_of_a_file_that_is_gone_is_found_in_a_newer_one(server: SimpleNamespace, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    tmp_path.joinpath("one").write_bytes(data)
    tmp_path.joinpath("two").write_bytes(data + os.urandom(2_000_000))
    for name in ("one", "two"):
        upload(server, f"newer/{name}", tmp_path / name, tmp_path / f"home-{name}")
    chunk = hashes.to_text(first_chunk(server, "newer/two"))
    assert hashes.to_text(first_chunk(server, "newer/one")) == chunk
    catalog, now = server.services.catalog, timedelta(0)
    catalog.delete(catalog.model("newer/one", viewer=SYSTEM), SYSTEM)
    database, objects = server.services.database, server.services.storage.objects
    assert Collector(database, objects, Living(database), grace=now, delay=now).run().rows["xet_files"] == 1
    with cas(server, "newer/two", "write") as writer:
        assert writer.get(f"/v1/chunks/default-merkledb/{chunk}").status_code == 200


def test_another_namespace_is_told_nothing_and_sends_it_all(server: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(2_000_000))
    upload(server, "secretive/model", path, tmp_path / "home-1")
    asked = hashes.to_text(first_chunk(server, "secretive/model"))
    with cas(server, "secretive/model", "write") as own:
        assert own.get(f"/v1/chunks/default/{asked}").status_code == 200
        assert own.get(f"/v1/chunks/default-merkledb/{asked}").status_code == 200
        unknown = own.get(f"/v1/chunks/default/{'0' * 64}")
        assert unknown.status_code == 404
    upload(server, "will/model", path, tmp_path / "home-2", "ect_writer")
    other = httpx.post(
        f"{server.url}/api/repos/create", json={"name": "wanda/model"}, headers={"authorization": "Bearer ect_other"}
    )
    assert other.status_code == 200
    with cas(server, "wanda/model", "write", "ect_other") as stranger:
        answer = stranger.get(f"/v1/chunks/default/{asked}")
        assert (answer.status_code, answer.content) == (404, unknown.content)


def test_readers_are_not_told_which_chunks_are_here(server: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(2_000_000))
    upload(server, "readable/model", path, tmp_path / "home")
    asked = hashes.to_text(first_chunk(server, "readable/model"))
    with cas(server, "readable/model", "read", "ect_reader") as reader:
        assert reader.get(f"/v1/chunks/default/{asked}").status_code == 403


def test_an_answer_holds_no_hash_that_could_be_used_by_who_lacks_the_bytes(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(3_000_000))
    upload(server, "keyed/model", path, tmp_path / "home")
    chunk = first_chunk(server, "keyed/model")
    with cas(server, "keyed/model", "write") as own:
        one, two = (own.get(f"/v1/chunks/default/{hashes.to_text(chunk)}").content for _ in range(2))
    term = server.services.storage.xet.deduplication
    assert term is not None and one.startswith(shards.TAG) and len(one) == len(two)
    key = one[-128:-96]
    assert key != two[-128:-96] and key != bytes(32)
    assert chunk not in one and blake3(chunk, key=key).digest() in one
    created, expiry = struct.unpack("<QQ", one[-96:-80])
    assert 3600 < expiry - created <= 24 * 3600

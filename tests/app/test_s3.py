"""`ecotone up` over a bucket: what is wrong is a sentence at the start; when the store fails later, nothing is gone."""

import os
import secrets
from pathlib import Path

import httpx
import pytest

from tests.app.test_upkeep import upload
from tests.running import Running, running
from tests.storage.faulty import SLOW_DOWN, Faulty
from tests.stores import BUCKET, ENDPOINT, in_a_bucket

SECRET = os.environ.get("AWS_SECRET_ACCESS_KEY", "")


@in_a_bucket
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ECOTONE_OBJECTS": "s3://bucket-that-is-not/x"}, "the bucket does not exist"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "refuses the credentials"),
        ({"ECOTONE_OBJECTS": BUCKET}, "s3://BUCKET"),
    ],
)
def test_a_store_that_cannot_be_used_is_a_sentence_at_start(tmp_path: Path, wrong: dict[str, str], words: str) -> None:
    done = Running(tmp_path).cli("up", env=wrong)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert "wrong-secret" not in done.stderr and SECRET not in done.stderr


@in_a_bucket
def test_a_store_that_fails_for_a_while_loses_nothing(tmp_path: Path) -> None:
    data = secrets.token_bytes(3_000_000)
    proxy = Faulty(ENDPOINT)
    with running(tmp_path, ECOTONE_S3_ENDPOINT=proxy.url) as found:
        found.publish("demo/kept", {"config.json": b"{}", "weights.bin": data})
        address = f"{found.url}/demo/kept/resolve/main/weights.bin"
        assert httpx.get(address, follow_redirects=True).content == data
        proxy.wrong = lambda *_: SLOW_DOWN
        told = httpx.get(address, timeout=120)
        assert told.status_code == 503 and told.headers["retry-after"] and BUCKET in told.text
        refused = found.http.post("/api/repos/create", json={"name": "demo/other"})
        assert refused.status_code == 503 and SECRET not in refused.text
        assert httpx.get(found.url + "/health").status_code == 200
        proxy.wrong = lambda *_: None
        assert httpx.get(address, follow_redirects=True).content == data
        assert found.http.post("/api/repos/create", json={"name": "demo/other"}).status_code == 200
        assert SECRET not in found.log
    proxy.close()


@in_a_bucket
def test_a_file_converted_since_its_commit_is_not_sought_where_it_lay(tmp_path: Path) -> None:
    """Clients are sent to the store for a whole file; once it lies there in chunks, the hub answers itself."""
    clock = {"ECOTONE_COLLECT_SECONDS": "0", "ECOTONE_COLLECT_DELAY": "0", "ECOTONE_CONVERT_SOON": "0"}
    with running(tmp_path, ECOTONE_S3_PUBLIC_ENDPOINT=ENDPOINT, **clock) as found:
        file = tmp_path / "w.bin"
        file.write_bytes(secrets.token_bytes(300_000))
        assert upload(found, "demo/a", "w.bin", file, HF_HUB_DISABLE_XET="1").returncode == 0
        address = f"{found.url}/demo/a/resolve/main/w.bin"
        assert httpx.get(address).headers["location"].startswith(ENDPOINT)
        assert found.told("convert")["files"] == 1
        for _ in range(2):
            found.told("gc", "--grace", "0")
        assert httpx.get(address, follow_redirects=True).content == file.read_bytes()


def test_without_its_library_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "obstore.py").write_text("raise ImportError\n")
    path = os.pathsep.join(p for p in (str(tmp_path), os.environ.get("PYTHONPATH", "")) if p)
    done = Running(tmp_path / "home").cli("up", env={"ECOTONE_OBJECTS": "s3://bucket", "PYTHONPATH": path})
    assert done.returncode == 1 and 'pip install "ecotone[s3]"' in done.stderr

"""Objects in a real S3 server, and what its faults do: nothing acknowledged is lost, errors say what is wrong."""

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.storage import BadToken, BrokenXorb, ContentNotFound, Storage, s3
from ecotone.storage.ahead import MOST_WINDOWS, WINDOW
from ecotone.storage.bucket import Bucket, Keys
from ecotone.storage.errors import StoreFull, StoreUnavailable
from ecotone.storage.files import Draft
from ecotone.storage.objects import key, pieces
from ecotone.storage.s3 import S3Objects
from ecotone.vocabulary import Invalid
from tests.receiver import until
from tests.storage.faulty import FULL, NOT_CONDITIONAL, SLOW_DOWN, Faulty
from tests.stores import BUCKET, ENDPOINT, in_a_bucket, placed

pytestmark = in_a_bucket
SECRET = os.environ.get("AWS_SECRET_ACCESS_KEY", "")


@pytest.fixture
def proxy() -> Iterator[Faulty]:
    made = Faulty(ENDPOINT)
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, **placed(tmp_path))


def opened(settings: Settings, endpoint: str = ENDPOINT, *, timeout: float = 20, name: str = BUCKET) -> S3Objects:
    told = Settings(
        data=settings.data,
        objects=settings.objects.replace(BUCKET, name),
        s3_endpoint=endpoint,
        s3_public_endpoint=endpoint,
    )
    bucket = Bucket.of(told)
    assert bucket is not None
    return S3Objects(bucket, timeout=timeout)


def whole(objects: S3Objects, name: str) -> bytes:
    with objects.open(name) as stored:
        return b"".join(pieces(stored, 0, stored.size))


def draft(folder: Path, data: bytes) -> Draft:
    made = Draft(folder / "staging", "test")
    made.write(data)
    return made


def test_what_is_put_comes_back(settings: Settings, tmp_path: Path) -> None:
    objects = opened(settings)
    data = os.urandom(9_000_001)
    for kind in ("git", "lfs", "xorbs"):
        with draft(tmp_path, data) as made:
            objects.place(made, key(kind, "ab" * 32))
        fresh = opened(settings)
        assert whole(fresh, key(kind, "ab" * 32)) == data
        with fresh.open(key(kind, "ab" * 32)) as stored:
            for start, size in ((0, 1), (8_999_990, 100), (4_000_000, 3_000_000), (9_000_001, 5), (0, 9_000_001)):
                assert stored.read(start, size) == data[start : start + size]
            assert stored.fileno() is None
        assert objects.size(key(kind, "ab" * 32)) == len(data)
    objects.put(b"", key("git", "00" * 20))
    assert whole(opened(settings), key("git", "00" * 20)) == b""
    with pytest.raises(ContentNotFound):
        objects.open(key("lfs", "cd" * 32))
    assert objects.size(key("lfs", "cd" * 32)) is None


def test_listing_and_removing(settings: Settings) -> None:
    objects = opened(settings)
    names = sorted(hashlib.sha1(bytes([n])).hexdigest() for n in range(30))
    for name in names:
        objects.put(name.encode(), key("git", name))
    found = list(objects.listed("git"))
    assert [f.key for f in found] == [key("git", n) for n in names] and {f.size for f in found} == {40}
    assert all(abs(f.placed - datetime.now(UTC)) < timedelta(minutes=2) for f in found)
    objects.remove(found[0].key)
    objects.remove(found[0].key)
    with pytest.raises(ContentNotFound):
        objects.open(found[0].key)
    assert len(list(objects.listed("git"))) == 29 and not list(objects.listed("lfs"))


def test_a_file_of_its_own(settings: Settings, tmp_path: Path) -> None:
    objects, data = opened(settings), os.urandom(5_000_000)
    objects.put(data, key("lfs", "ef" * 32))
    objects.fetch(key("lfs", "ef" * 32), tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == data and (tmp_path / "plain").stat().st_mode & 0o222 == 0


def test_of_many_writers_one_wins_whole(settings: Settings) -> None:
    """Two servers get the same xorb in two compressions: what one of them verified must not change under it."""
    written = [bytes([n]) * 200_000 for n in range(8)]
    stores = [opened(settings) for _ in written]
    seen: list[bytes] = []
    gate = threading.Barrier(len(written))

    def write(store: S3Objects, data: bytes) -> None:
        gate.wait()
        store.put(data, key("xorbs", "12" * 32))
        seen.append(whole(opened(settings), key("xorbs", "12" * 32)))

    threads = [threading.Thread(target=write, args=pair) for pair in zip(stores, written, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and len(set(seen)) == 1 and seen[0] in written


def test_large_ones_in_parts(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "ONE_PUT", 10_000_000)
    objects, data = opened(settings), os.urandom(21_000_000)
    with draft(tmp_path, data) as made:
        objects.place(made, key("lfs", "34" * 32))
        objects.place(made, key("lfs", "34" * 32))
    assert whole(opened(settings), key("lfs", "34" * 32)) == data


@pytest.mark.parametrize("wrong", [SLOW_DOWN, "reset in", "lost"])
def test_parts_through_faults(
    wrong: Any, settings: Settings, tmp_path: Path, proxy: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request goes wrong once: the beginning, each part, and the last step, whose answer may be lost."""
    monkeypatch.setattr(s3, "ONE_PUT", 10_000_000)
    objects, data, seen = opened(settings, proxy.url), os.urandom(21_000_000), set[str]()

    def first(method: str, path: str, _: bytes) -> Any:
        met = f"{method} {path}" in seen
        seen.add(f"{method} {path}")
        return None if met or method == "HEAD" else wrong

    proxy.wrong = first
    with draft(tmp_path, data) as made:
        for _ in range(3):  # what the store did not take is said, and the same call again takes it
            try:
                objects.place(made, key("lfs", "35" * 32))
            except StoreUnavailable as told:
                assert opened(settings).size(key("lfs", "35" * 32)) is None, told
            else:
                break
    assert whole(opened(settings), key("lfs", "35" * 32)) == data


def test_a_reader_in_a_row_does_not_wait_for_each_request(settings: Settings, proxy: Faulty) -> None:
    data = os.urandom(16 * 1024 * 1024)
    opened(settings).put(data, key("lfs", "56" * 32))
    far = opened(settings, proxy.url)
    came: list[float] = []
    proxy.wrong = lambda method, *_: came.append(time.monotonic()) or 1.5 if method == "GET" else None
    assert whole(far, key("lfs", "56" * 32)) == data
    gaps = [after - before for before, after in itertools.pairwise(came)]
    assert sum(gap < 1.5 for gap in gaps) >= 2, "each was asked for only when the one before had come"
    proxy.asked.clear()
    with far.open(key("lfs", "56" * 32)) as stored:
        assert stored.read(5_000_000, 1000) == data[5_000_000:5_001_000]
    assert len(proxy.asked) == 1, "a small part is one request, and nothing is fetched ahead"


def test_windows_are_given_back(settings: Settings) -> None:
    objects, data = opened(settings), os.urandom(5 * WINDOW)
    objects.put(data, key("lfs", "57" * 32))
    for _ in range(40):
        with objects.open(key("lfs", "57" * 32)) as stored:
            for start in range(0, 3 * WINDOW, 1024 * 1024):
                stored.read(start, 1024 * 1024)
    room = 0

    def all_back() -> bool:
        nonlocal room
        while objects._ahead._room.acquire(blocking=False):
            room += 1
        return room >= MOST_WINDOWS

    until(all_back)
    assert room == MOST_WINDOWS


def test_two_servers_over_one_bucket(settings: Settings, tmp_path: Path, database: Database, forge: Any) -> None:
    """What one of them took, the other one names, reads and rebuilds; they share database and bucket, and no folder."""
    one, two = (
        Storage(database, Settings(data=tmp_path / name, objects=settings.objects, s3_endpoint=ENDPOINT))
        for name in ("one", "two")
    )
    chunks = forge.cut(forge.sample(500_000))
    name, raw = forge.xorb(chunks)
    _, packed = forge.xorb(chunks, 1)
    assert one.xet.put_xorb("demo", name, raw) and not two.xet.put_xorb("demo", name, packed)
    file, shard = forge.whole(b"".join(chunks), chunks, name)
    assert two.xet.put_shard("demo", shard) == 1
    for storage in (one, two):
        found = storage.xet.file("demo", file)
        assert b"".join(storage.xet.read(found, 0, found.size)) == b"".join(chunks)
        assert storage.xet.index(name).stored_size == len(raw)
    assert two.git_object(one.put_git_object("blob", b"x")) == ("blob", b"x")
    two.put_git_objects(("blob", bytes([n])) for n in range(40))
    assert len(list(one.objects.listed("git"))) == 41


# -- faults ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wrong", [SLOW_DOWN, "reset in", "reset out", "cut", "lost", 0.5])
def test_a_fault_that_passes_is_not_seen(wrong: Any, settings: Settings, tmp_path: Path, proxy: Faulty) -> None:
    """The first request for each object goes wrong, the next one passes."""
    objects, data = opened(settings, proxy.url), os.urandom(3_000_000)
    names = [key("xorbs", hashlib.sha256(os.urandom(8)).hexdigest()) for _ in range(3)]
    seen: set[tuple[str, str]] = set()

    def first(method: str, path: str, _: bytes) -> Any:
        met = (method, path) in seen
        seen.add((method, path))
        return None if met else wrong

    proxy.wrong = first
    for name in names:
        with draft(tmp_path, data) as made:
            objects.place(made, name)
    seen.clear()
    for name in names:
        assert opened(settings).size(name) == len(data)
        assert whole(objects, name) == data


@pytest.mark.parametrize("wrong", [SLOW_DOWN, "reset in", "reset out", "cut"])
def test_a_fault_that_lasts_is_told(
    wrong: Any, settings: Settings, tmp_path: Path, proxy: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "RETRIES", 1)
    objects, name = opened(settings, proxy.url, timeout=5), key("lfs", "78" * 32)
    if wrong in ("reset out", "cut"):
        opened(settings).put(os.urandom(3_000_000), name)
    proxy.wrong = lambda *_: wrong
    with pytest.raises(StoreUnavailable) as told:
        if wrong in ("reset out", "cut"):
            proxy.wrong = lambda method, *_: wrong if method == "GET" else None
            whole(objects, name)
        else:
            with draft(tmp_path, os.urandom(3_000_000)) as made:
                objects.place(made, name)
    assert proxy.url in told.value.message and BUCKET in told.value.message and SECRET not in str(told.value)
    if wrong not in ("reset out", "cut"):
        assert opened(settings).size(name) is None


def test_a_store_that_does_not_answer_in_time(settings: Settings, proxy: Faulty, monkeypatch: Any) -> None:
    monkeypatch.setattr(s3, "RETRIES", 0)
    objects = opened(settings, proxy.url, timeout=0.5)
    proxy.wrong = lambda *_: 45.0
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="too slow"):
        objects.put(b"x", key("git", "9a" * 20))
    assert time.monotonic() - began < 30


def test_a_full_bucket(settings: Settings, proxy: Faulty) -> None:
    objects = opened(settings, proxy.url)
    proxy.wrong = lambda method, *_: FULL if method == "PUT" else None
    with pytest.raises(StoreFull, match="no room"):
        objects.put(b"x", key("git", "bc" * 20))
    proxy.wrong = lambda *_: None
    assert objects.size(key("git", "bc" * 20)) is None


def test_a_store_that_cannot_write_only_once(settings: Settings, proxy: Faulty, caplog: Any) -> None:
    objects = opened(settings, proxy.url)
    proxy.wrong = lambda method, _, head: NOT_CONDITIONAL if b"if-none-match" in head.lower() else None
    objects.check()
    assert "one server process" in caplog.text and not objects.writes_once
    objects.put(b"first", key("git", "de" * 20))
    objects.put(b"second", key("git", "de" * 20))
    assert whole(opened(settings), key("git", "de" * 20)) == b"first"


# -- at the start ----------------------------------------------------------------------------------------------------
def test_a_server_says_at_its_start_what_is_wrong(
    settings: Settings, proxy: Faulty, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnavailable, match=r"does not exist.*ECOTONE_OBJECTS"):
        opened(settings, name="bucket-that-is-not").check()
    with pytest.raises(ContentNotFound):
        opened(settings).open(key("lfs", "f0" * 32))
    with pytest.raises(StoreUnavailable, match="does not exist"):  # never taken for an object that is gone
        opened(settings, name="bucket-that-is-not").open(key("lfs", "f0" * 32))
    monkeypatch.setattr(s3, "RETRIES", 0)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        opened(settings, "http://127.0.0.1:1").check()
    with monkeypatch.context() as patched:
        patched.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
        with pytest.raises(StoreUnavailable, match="refuses the credentials") as told:
            Storage(database, settings)
        assert "wrong-secret" not in str(told.value) and BUCKET in told.value.message
    opened(settings).check()  # all is well again
    assert not list(opened(settings).listed("health"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"objects": "bucket/prefix"}, "ECOTONE_OBJECTS"),
        ({"objects": "s3://"}, "ECOTONE_OBJECTS"),
        ({"objects": "s3://b", "s3_endpoint": "store:9000"}, "ECOTONE_S3_ENDPOINT"),
        ({"objects": "s3://b", "s3_public_endpoint": "https://store/path"}, "ECOTONE_S3_PUBLIC_ENDPOINT"),
        ({"objects": "s3://b", "s3_endpoint": "https://me:hidden@store"}, "holds credentials"),
    ],
)
def test_wrong_settings(wrong: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=told) as refused:
        Bucket.of(Settings(data=tmp_path, **wrong))  # type: ignore[arg-type]
    assert "hidden" not in refused.value.message


# -- addresses for clients -------------------------------------------------------------------------------------------
@pytest.fixture
def direct(open_storage: Callable[..., Storage]) -> Storage:
    return open_storage(s3_public_endpoint=ENDPOINT)


def test_a_data_address_opens_its_range_alone(direct: Storage, forge: Any) -> None:
    """Other chunks of the xorb may be of files that the holder must not read."""
    chunks = forge.cut(forge.sample(400_000))
    name, body = forge.xorb(chunks)
    direct.xet.put_xorb("demo", name, body)
    assert direct.direct is not None
    address = direct.direct.xorb_range(name, 50_008, 100_015)
    got = httpx.get(address, headers={"range": "bytes=50008-100015"})
    assert got.status_code == 206 and got.content == body[50_008:100_016]
    for other in ("bytes=0-100015", "bytes=50008-100016", "bytes=50008-", "bytes=0-", "bytes=0-9,50008-100015"):
        assert httpx.get(address, headers={"range": other}).status_code == 403, other
    assert httpx.get(address).status_code == 403
    assert httpx.head(address, headers={"range": "bytes=50008-100015"}).status_code == 403
    assert httpx.put(address, content=b"x", headers={"range": "bytes=50008-100015"}).status_code == 403
    moved = address.replace(name[2:], "0" * 62)
    assert httpx.get(moved, headers={"range": "bytes=50008-100015"}).status_code == 403
    assert SECRET not in address


def test_addresses_end(settings: Settings) -> None:
    objects = opened(settings)
    objects.put(b"x", key("lfs", "ab" * 32))
    keys = Keys.from_environment()
    assert keys is not None and SECRET not in repr(keys)
    assert httpx.get(objects.bucket.signed(keys, "GET", key("lfs", "ab" * 32), seconds=60)).content == b"x"
    short = objects.bucket.signed(keys, "GET", key("lfs", "ab" * 32), seconds=1)
    time.sleep(2.5)
    assert httpx.get(short).status_code == 403


def test_a_xorb_put_directly_is_verified_before_it_counts(direct: Storage, forge: Any) -> None:
    chunks = forge.cut(forge.sample(300_000))
    name, body = forge.xorb(chunks)
    assert direct.direct is not None
    made = direct.direct.grant("demo", name, len(body))
    assert made is not None
    grant, address, headers = made
    with pytest.raises(ContentNotFound):
        direct.direct.commit("demo", name, grant)
    assert httpx.put(address, content=body + b"x", headers=headers).status_code == 403, "another length"
    assert httpx.put(address, content=body).status_code == 403, "a second put could change what was verified"
    assert httpx.put(address, content=body, headers=headers).status_code == 200
    assert httpx.put(address, content=body, headers=headers).status_code == 412
    assert direct.xet.xorb_size("demo", name) is None
    for tenant, other in (("other", name), ("demo", "0" * 64)):
        with pytest.raises(BadToken):
            direct.direct.commit(tenant, other, grant)
    direct.direct.commit("demo", name, grant)
    direct.direct.commit("demo", name, grant)
    assert direct.xet.xorb_size("demo", name) == len(body)
    assert not list(direct.objects.listed("staging"))


def test_a_poisoned_xorb_put_directly_is_refused(direct: Storage, forge: Any) -> None:
    name, _ = forge.xorb(forge.cut(forge.sample(300_000)))
    _, body = forge.xorb(forge.cut(bytes(300_000)))
    assert direct.direct is not None
    made = direct.direct.grant("demo", name, len(body))
    assert made is not None
    assert httpx.put(made[1], content=body, headers=made[2]).status_code == 200
    with pytest.raises(BrokenXorb):
        direct.direct.commit("demo", name, made[0])
    assert direct.xet.xorb_size("demo", name) is None and not list(direct.objects.listed("staging"))
    with pytest.raises(BrokenXorb):
        direct.direct.grant("demo", name, 2**40)


def test_what_was_put_and_never_committed_goes(direct: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    direct.objects.put(b"left", key("staging", "ab" * 16))
    assert direct.direct is not None
    direct.direct.sweep()
    assert len(list(direct.objects.listed("staging"))) == 1
    monkeypatch.setattr("ecotone.storage.direct.utc_now", lambda: datetime.now(UTC) + timedelta(days=2))
    direct.direct.sweep()
    assert not list(direct.objects.listed("staging"))

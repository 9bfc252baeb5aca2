"""Files from xorbs: every byte right, every false claim refused, nothing across namespaces."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotone.storage import BadToken, BrokenShard, BrokenXorb, RangeNotSatisfiable, Storage, UploadTooLarge, xorbs
from ecotone.storage.errors import ContentNotFound
from ecotone.storage.xet import TOKEN_GRACE, TOKEN_SECONDS


def sent(storage: Storage, forge: Any, data: bytes, *, size: int = 50_000, scheme: int = 0) -> str:
    """Store a file of one xorb in the namespace demo; returns its name."""
    chunks = forge.cut(data, size)
    xorb, body = forge.xorb(chunks, scheme)
    storage.xet.put_xorb("demo", xorb, body)
    name, shard = forge.whole(data, chunks, xorb)
    assert storage.xet.put_shard("demo", shard) == 1
    return str(name)


def rebuilt(storage: Storage, name: str, start: int, end: int | None) -> bytes:
    """What a client makes of the answer to a reconstruction: fetches ranges, unpacks, lays terms side by side."""
    file = storage.xet.file("demo", name)
    told = storage.xet.reconstruction(file, start, end)
    chunks: dict[tuple[str, int], bytes] = {}
    for xorb, ranges in told.fetch.items():
        assert ranges == sorted(ranges)
        for low, high, first, last in ranges:
            name, a, b, size = storage.xet.signed_range(storage.xet.sign_range(xorb, first, last))
            assert (a, b) == (first, last) and last < size
            with storage.xet.open(name) as stored:
                got = list(xorbs.chunks_of(memoryview(stored.read(first, last + 1 - first)), low))
            assert len(got) == high - low
            chunks.update({(xorb, low + i): bytes(raw) for i, raw in enumerate(got)})
    whole = b""
    for term in told.terms:
        raw = b"".join(chunks[term.xorb, n] for n in range(term.start, term.end))
        assert len(raw) == term.length
        whole += raw
    return whole[told.offset :][: (file.size if end is None else min(end, file.size)) - start]


def test_a_file_comes_back(storage: Storage, forge: Any) -> None:
    data = forge.sample(700_000)
    name = sent(storage, forge, data)
    content = storage.verify_large("demo", hashlib.sha256(data).hexdigest())
    assert (content.kind, content.xet_hash, content.size) == ("xet", name, len(data))
    assert content.pointer_size == len(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 700000\n"
    )
    assert b"".join(storage.read(content)) == data
    assert rebuilt(storage, name, 0, None) == data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_any_range_equals_the_slice(data: Any, storage: Storage, forge: Any) -> None:
    one, two = forge.cut(forge.sample(3000), 97), forge.cut(bytes(500) + forge.sample(2000)[1000:], 131)
    names = []
    for chunks, scheme in ((one, 1), (two, 2)):
        name, body = forge.xorb(chunks, scheme)
        storage.xet.put_xorb("demo", name, body)
        names.append(name)
    cuts = st.tuples(st.integers(0, 1), st.integers(0, len(two) - 2), st.integers(1, 9))
    parts = [
        (which, a, min(a + n, len((one, two)[which])))
        for which, a, n in data.draw(st.lists(cuts, min_size=1, max_size=6))
    ]
    terms = [forge.term(names[which], (one, two)[which], a, b) for which, a, b in parts]
    whole = b"".join(b"".join((one, two)[which][a:b]) for which, a, b in parts)
    storage.xet.put_shard("demo", forge.shard(forge.file(terms, hashlib.sha256(whole).hexdigest())))
    content = storage.verify_large("demo", hashlib.sha256(whole).hexdigest())
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, len(whole) + 3))
    assert b"".join(storage.read(content, start, end)) == whole[start:end]
    assert rebuilt(storage, content.xet_hash or "", start, end) == whole[start:end]


def test_a_range_behind_the_end(storage: Storage, forge: Any) -> None:
    file = storage.xet.file("demo", sent(storage, forge, b"abc"))
    with pytest.raises(RangeNotSatisfiable):
        storage.xet.reconstruction(file, 3, None)


def test_reading_a_little_unpacks_a_little(storage: Storage, forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """8192 packed chunks fit into one read: unpacked together they would be a gigabyte."""
    data = bytes(131_072) * 300
    name = sent(storage, forge, data, size=131_072, scheme=1)
    count = 0
    unpack = xorbs.decode

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return unpack(*args)

    monkeypatch.setattr(xorbs, "decode", counted)
    pieces = storage.xet.read(storage.xet.file("demo", name), 0, len(data))
    assert len(next(iter(pieces))) == 131_072 and count == 1
    assert b"".join(storage.xet.read(storage.xet.file("demo", name), 131_072 * 7, 131_072 * 8)) == data[:131_072]
    assert count == 2


def test_the_first_compression_stays(storage: Storage, forge: Any, files_in: Callable[[str], list[str]]) -> None:
    chunks = [b"ab" * 5000, b"cd" * 5000]
    name, raw = forge.xorb(chunks)
    _, packed = forge.xorb(chunks, 1)
    assert storage.xet.put_xorb("demo", name, raw) is True
    assert storage.xet.put_xorb("demo", name, packed) is False
    assert storage.xet.put_xorb("other", name, packed) is True
    assert len(files_in("objects/xorbs")) == 1
    assert storage.xet.xorb_size("other", name) == len(raw)


def test_nothing_across_namespaces(storage: Storage, forge: Any) -> None:
    data = forge.sample(100_000)
    chunks = forge.cut(data)
    xorb, body = forge.xorb(chunks)
    name = sent(storage, forge, data)
    _, shard = forge.whole(data, chunks, xorb)
    with pytest.raises(ContentNotFound):
        storage.xet.file("other", name)
    assert storage.large("other", hashlib.sha256(data).hexdigest()) is None
    assert storage.xet.xorb_size("other", xorb) is None
    with pytest.raises(BrokenShard, match="not sent here"):
        storage.xet.put_shard("other", shard)
    storage.xet.put_xorb("other", xorb, body)
    assert storage.xet.put_shard("other", shard) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"end": 9}, "does not have"),
        ({"start": 2, "end": 2, "length": 0}, "does not have"),
        ({"start": 3, "end": 1}, "does not have"),
        ({"start": 2**32 - 1, "end": 2**32 - 1}, "does not have"),
        ({"length": 1}, "another length"),
        ({"length": 2**32 - 1}, "another length"),
        ({"proof": bytes(32)}, "verification hash"),
        ({"xorb": bytes(32)}, "not sent here"),
    ],
)
def test_terms_that_are_not_what_is_stored(wrong: dict[str, Any], said: str, storage: Storage, forge: Any) -> None:
    data = forge.sample(200_000)
    chunks = forge.cut(data)
    xorb, body = forge.xorb(chunks)
    storage.xet.put_xorb("demo", xorb, body)
    sha256 = hashlib.sha256(data).hexdigest()
    shard = forge.shard(forge.file([forge.term(xorb, chunks, 0, len(chunks)) | wrong], sha256))
    with pytest.raises(BrokenShard, match=said):
        storage.xet.put_shard("demo", shard)
    assert storage.large("demo", sha256) is None


def test_a_sha256_that_is_not_its_bytes(storage: Storage, forge: Any) -> None:
    """Somebody's published checksum must not become the name of other bytes: nor later, nor in the same shard."""
    chunks = [b"evil", b"bytes"]
    xorb, body = forge.xorb(chunks)
    storage.xet.put_xorb("demo", xorb, body)
    term = forge.term(xorb, chunks, 0, 2)
    good, claimed = hashlib.sha256(b"evilbytes").hexdigest(), hashlib.sha256(b"good bytes").hexdigest()
    false, true = forge.file([term], claimed), forge.file([term], good)
    for shard in (forge.shard(false), forge.shard(false, true), forge.shard(true, false)):
        with pytest.raises(BrokenShard, match=f"has the sha256 {good}, not {claimed}"):
            storage.xet.put_shard("demo", shard)
        assert storage.large("demo", claimed) is None and storage.large("demo", good) is None
    assert storage.xet.put_shard("demo", forge.shard(true)) == 1
    with pytest.raises(BrokenShard, match="as the shard says"):
        storage.xet.put_shard("demo", forge.shard(false))
    assert storage.xet.put_shard("demo", forge.shard(true)) == 0


def test_one_wrong_file_refuses_the_whole_shard(storage: Storage, forge: Any) -> None:
    chunks = [b"one", b"two"]
    xorb, body = forge.xorb(chunks)
    storage.xet.put_xorb("demo", xorb, body)
    good = forge.file([forge.term(xorb, chunks, 0, 1)], hashlib.sha256(b"one").hexdigest())
    bad = forge.file([forge.term(xorb, chunks, 1, 2)], None, name=b"\7" * 32)
    with pytest.raises(BrokenShard, match="another file hash"):
        storage.xet.put_shard("demo", forge.shard(good, bad))
    assert storage.large("demo", hashlib.sha256(b"one").hexdigest()) is None


def test_two_chunkings_of_one_file_both_resolve(storage: Storage, forge: Any) -> None:
    data = forge.sample(90_000)
    names = {sent(storage, forge, data, size=size) for size in (10_000, 30_000)}
    assert len(names) == 2
    for name in names:
        assert b"".join(storage.xet.read(storage.xet.file("demo", name), 0, len(data))) == data
    assert (storage.large("demo", hashlib.sha256(data).hexdigest()) or pytest.fail()).xet_hash in names


def test_more_files_than_a_statement_has_room_for(storage: Storage, forge: Any) -> None:
    """A shard of many small files must not pass the database's limit of parameters."""
    chunks = [b"%d" % n for n in range(3000)]
    xorb, body = forge.xorb(chunks)
    storage.xet.put_xorb("demo", xorb, body)
    files = [forge.file([forge.term(xorb, chunks, n, n + 1)], None) for n in range(3000)]
    assert storage.xet.put_shard("demo", forge.shard(*files)) == 3000
    assert storage.xet.put_shard("demo", forge.shard(*files)) == 0


def test_bounds_of_what_is_rebuilt(open_storage: Callable[..., Storage], forge: Any) -> None:
    """A few bytes of shard can name terabytes, or millions of one-byte chunks: refused before any is read."""
    storage = open_storage(max_object_bytes=1_000_000)
    chunks = [b"%d" % (n % 10) for n in range(8000)]
    xorb, body = forge.xorb(chunks)
    storage.xet.put_xorb("demo", xorb, body)
    term = forge.term(xorb, chunks, 0, 8000)
    with pytest.raises(BrokenShard, match="at most 1000000"):
        storage.xet.put_shard("demo", forge.shard(forge.file([term] * 200, None, name=bytes(31) + b"\1")))
    with pytest.raises(BrokenShard, match="far more than"):
        storage.xet.put_shard("demo", forge.shard(forge.file([term] * 20, None, name=bytes(31) + b"\1")))


def test_progress_is_told(storage: Storage, forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecotone.storage.acceptance._TOLD_BYTES", 100_000)
    data = forge.sample(250_000)
    chunks = forge.cut(data)
    xorb, body = forge.xorb(chunks)
    storage.xet.put_xorb("demo", xorb, body)
    heard: list[tuple[int, int]] = []
    storage.xet.put_shard("demo", forge.whole(data, chunks, xorb)[1], lambda *n: heard.append(n))
    assert heard == [(100_000, 250_000), (200_000, 250_000)]


@pytest.mark.parametrize("name", ["", "0" * 63, "../" * 20, "F" * 64, "0" * 64 + "/x"])
def test_a_name_that_is_no_hash(name: str, storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    with pytest.raises(BrokenXorb, match="64 lower-case"):
        storage.xet.put_xorb("demo", name, b"")
    assert not files_in("staging")


def test_refused_xorbs_leave_nothing(
    storage: Storage, forge: Any, files_in: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, body = forge.xorb([b"a" * 100])
    for wrong in (b"", body[:-1], body[::-1], bytes(9)):
        with pytest.raises(BrokenXorb):
            storage.xet.put_xorb("demo", name, wrong)
    monkeypatch.setattr(xorbs, "MOST_SENT", 50)
    with pytest.raises(UploadTooLarge):
        storage.xet.put_xorb("demo", name, body)
    assert not files_in("staging") and not files_in("objects/xorbs")
    assert storage.xet.xorb_size("demo", name) is None


def test_footer_is_taken_and_not_kept_twice(storage: Storage, forge: Any) -> None:
    name, body = forge.xorb([b"a", b"b"])
    footer = xorbs.verify(body, name)[1].footer(name)
    assert storage.xet.put_xorb("demo", name, body + footer)
    assert storage.xet.xorb_size("demo", name) == len(body)


# -- tokens ----------------------------------------------------------------------------------------------------------
def test_tokens(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    token, ends = storage.xet.token("demo", "read", repo=1, holder="t")
    assert storage.xet.grant(token) == storage.xet.grant(token)
    assert (storage.xet.grant(token).tenant, storage.xet.grant(token).write) == ("demo", False)
    assert storage.xet.grant(storage.xet.token("demo", "write", repo=1, holder="t")[0]).write
    with pytest.raises(BadToken):
        storage.xet.signed_range(token)
    for wrong in (token[:-1], token[1:], token + "x", token.replace(".", ""), "", "é.é"):
        with pytest.raises(BadToken):
            storage.xet.grant(wrong)
    for seconds, works in ((TOKEN_GRACE - 5, True), (TOKEN_GRACE + 5, False)):
        monkeypatch.setattr("ecotone.storage.signing.time.time", lambda at=ends + seconds: at)
        if works:
            storage.xet.grant(token)
        else:
            with pytest.raises(BadToken, match="no longer valid"):
                storage.xet.grant(token)
    assert TOKEN_SECONDS >= 300

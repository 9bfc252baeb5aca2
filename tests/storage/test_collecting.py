"""Garbage collection takes what nobody names and nothing else, whatever is uploaded and committed at the same time."""

import hashlib
import secrets
import struct
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from ecotone.accounts import SYSTEM
from ecotone.catalog.living import Living, forget_objects
from ecotone.publishing import AddLarge, AddRegular, Commit, DeleteFolder, Publishing
from ecotone.storage import BrokenShard, Content, ContentNotFound, ObjectMissing, hashes
from ecotone.storage import collecting as collecting_module
from ecotone.storage.collecting import Collected, Collector
from ecotone.storage.models import ChunkRow, CondemnedRow, EpochRow, LfsObjectRow, XetFileRow, XorbTenantRow
from ecotone.storage.objects import key

NOW = timedelta(0)
TABLES = (LfsObjectRow, XetFileRow, XorbTenantRow)


def collector(house: SimpleNamespace, *, grace: timedelta = NOW, delay: timedelta = NOW, **more: Any) -> Collector:
    storage, living = house.storage, Living(house.database)
    return Collector(house.database, storage.objects, living, grace=grace, delay=delay, **more)


def collect(house: SimpleNamespace, **more: Any) -> Collected:
    return collector(house, **more).run()


def send_whole(house: SimpleNamespace, data: bytes, tenant: str = "demo") -> str:
    name = hashlib.sha256(data).hexdigest()
    with house.storage.lfs.receiving(tenant, name, len(data)) as upload:
        upload.write(data)
        upload.finish()
    return name


def xorb_of(data: bytes) -> tuple[str, bytes]:
    head = b"\0" + len(data).to_bytes(3, "little") + b"\0" + len(data).to_bytes(3, "little")
    return hashes.to_text(hashes.chunk_hash(data)), head + data


def shard_of(data: bytes) -> bytes:
    """A shard of one file of one chunk, whose bytes are a xorb."""
    from ecotone.storage import shards

    digest = hashes.chunk_hash(data)
    raw = hashlib.sha256(data).digest()
    told = b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)) + bytes(16)
    return b"".join(
        (
            shards.TAG + struct.pack("<QQ", 2, 0),
            hashes.file_hash([(digest, len(data))]) + struct.pack("<4I", 3 << 30, 1, 0, 0),
            digest + struct.pack("<4I", 0, len(data), 0, 1),
            hashes.verification_hash(digest) + bytes(16) + told,
            (b"\xff" * 32 + bytes(16)) * 2,
        )
    )


def send_xet(house: SimpleNamespace, data: bytes, tenant: str = "demo") -> str:
    name, xorb = xorb_of(data)
    house.storage.xet.put_xorb(tenant, name, xorb)
    house.storage.xet.put_shard(tenant, shard_of(data))
    return hashlib.sha256(data).hexdigest()


SEND: dict[str, Callable[..., str]] = {"lfs": send_whole, "xet": send_xet}


def repository(house: SimpleNamespace, name: str = "demo/m") -> Any:
    return house.catalog.create(name, private=False, actor=SYSTEM)


def commit(house: SimpleNamespace, sha256: str, path: str = "w.bin", name: str = "demo/m", **files: bytes) -> Any:
    operations = [AddLarge(path, sha256, None), *(AddRegular(p, d) for p, d in files.items())]
    return house.publishing.commit(name, "main", Commit(message="x", operations=tuple(operations)), actor=SYSTEM)


def content(house: SimpleNamespace, path: str = "w.bin", name: str = "demo/m") -> Content:
    model = house.catalog.model(name, viewer=SYSTEM)
    return house.catalog.file(house.catalog.revision(model), path).content


def read(house: SimpleNamespace, path: str = "w.bin", name: str = "demo/m") -> bytes:
    return b"".join(house.storage.read(content(house, path, name)))


def rows(house: SimpleNamespace, table: Any) -> int:
    with house.database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def objects(house: SimpleNamespace, kind: str) -> set[str]:
    return {listed.key for listed in house.storage.objects.listed(kind)}


@pytest.mark.parametrize("form", SEND)
def test_what_a_deleted_repository_held_goes_and_a_living_one_keeps_its_own(house: SimpleNamespace, form: str) -> None:
    kept, shared, doomed = (secrets.token_bytes(9000) for _ in range(3))
    for name in ("demo/m", "demo/gone"):
        repository(house, name)
    commit(house, SEND[form](house, kept), "a.bin")
    for name in ("demo/m", "demo/gone"):
        commit(house, SEND[form](house, shared), "b.bin", name)
    commit(house, SEND[form](house, doomed), "c.bin", "demo/gone", notes=b"only here")
    house.catalog.delete(house.catalog.model("demo/gone", viewer=SYSTEM), SYSTEM)
    assert collect(house, grace=timedelta(days=7)).rows == {}, "everything is young"
    first = collect(house, delay=timedelta(hours=1))
    second = collect(house, delay=timedelta(hours=1))
    assert first.removed == second.removed == {} and second.rows == {}, "the delay is not over"
    kind = "lfs" if form == "lfs" else "xorbs"
    assert first.condemned[kind].objects == 1 and first.condemned["git"].objects >= 4
    last = collect(house)
    assert last.removed[kind].objects == 1 and last.removed["git"].objects == first.condemned["git"].objects
    assert last.removed[kind].bytes >= 9000 and last.waiting == 0
    assert read(house, "a.bin") == kept and read(house, "b.bin") == shared
    assert house.storage.large("demo", hashlib.sha256(doomed).hexdigest()) is None
    for ref in house.catalog.commits(house.catalog.model("demo/m", viewer=SYSTEM)):
        assert house.storage.git_object(ref.id)[0] == "commit" and house.storage.git_object(ref.tree)[0] == "tree"
    assert collect(house).removed == {}


def test_every_revision_counts_until_it_is_gone(house: SimpleNamespace) -> None:
    """A file deleted in a later commit can still be had from the earlier one."""
    data = secrets.token_bytes(5000)
    model = repository(house)
    old = commit(house, send_whole(house, data), "d/w.bin").revision_id
    house.publishing.commit("demo/m", "main", Commit(message="y", operations=(DeleteFolder("d"),)), actor=SYSTEM)
    for _ in range(3):
        collect(house)
    file = house.catalog.file(house.catalog.revision(model, old), "d/w.bin")
    assert b"".join(house.storage.read(file.content)) == data
    from ecotone.catalog.models import RevisionRow

    with house.database.writing() as session:  # as a squash does
        session.execute(sa.delete(RevisionRow).where(RevisionRow.sha == old))
        assert forget_objects(session, model.key) == 1
    for _ in range(2):
        collect(house)
    assert objects(house, "lfs") == set()


def test_a_dry_run_counts_and_changes_nothing(house: SimpleNamespace) -> None:
    for form in SEND.values():
        form(house, secrets.token_bytes(4000))
    house.storage.put_git_object("blob", b"nobody's")
    before = [rows(house, table) for table in (*TABLES, CondemnedRow)]
    told = collect(house, dry_run=True)
    assert told.rows == {"lfs_objects": 1, "xet_files": 1, "xorb_tenants": 1}
    assert {kind: count.objects for kind, count in told.condemned.items()} == {"lfs": 1, "xorbs": 1, "git": 1}
    assert told.condemned["lfs"].bytes == 4000
    assert [rows(house, table) for table in (*TABLES, CondemnedRow)] == before
    did = collect(house)
    assert did.rows == told.rows and did.condemned == told.condemned


def test_a_row_of_one_namespace_does_not_hold_that_of_another(house: SimpleNamespace) -> None:
    data = secrets.token_bytes(4000)
    repository(house)
    commit(house, send_whole(house, data))
    send_whole(house, data, "other")
    assert collect(house).rows == {"lfs_objects": 1}
    assert house.storage.large("other", hashlib.sha256(data).hexdigest()) is None
    assert read(house) == data and collect(house).removed == {}


def test_a_file_that_is_kept_as_xet_too_needs_no_whole_object(house: SimpleNamespace) -> None:
    data = secrets.token_bytes(4000)
    repository(house)
    commit(house, send_whole(house, data))
    send_xet(house, data)
    for _ in range(2):
        collect(house)
    assert objects(house, "lfs") == set() and read(house) == data


def test_what_is_told_of_chunks_goes_with_the_last_file_that_holds_them(house: SimpleNamespace) -> None:
    repository(house)
    kept, doomed = secrets.token_bytes(4000), secrets.token_bytes(4000)
    commit(house, send_xet(house, kept))
    send_xet(house, doomed)
    assert rows(house, ChunkRow) == 2
    collect(house)
    answer = house.storage.xet.deduplication.answer
    assert rows(house, ChunkRow) == 1
    assert answer("demo", hashes.to_text(hashes.chunk_hash(kept))) is not None
    assert answer("demo", hashes.to_text(hashes.chunk_hash(doomed))) is None


def test_objects_that_a_crash_left_without_rows_go(house: SimpleNamespace) -> None:
    from ecotone.storage.files import Draft

    for kind in ("lfs", "xorbs"):
        with Draft(house.storage.staging, "x") as draft:
            draft.write(b"orphan")
            house.storage.objects.place(draft, key(kind, secrets.token_hex(32)))
    assert collect(house, grace=timedelta(days=7)).condemned == {}
    collect(house)
    assert {k: c.objects for k, c in collect(house).removed.items()} == {"lfs": 1, "xorbs": 1}


@pytest.mark.parametrize("form", SEND)
def test_a_file_sent_again_after_it_was_condemned_stays(house: SimpleNamespace, form: str) -> None:
    data = secrets.token_bytes(6000)
    repository(house)
    SEND[form](house, data)
    assert collect(house, delay=timedelta(hours=1)).condemned
    commit(house, SEND[form](house, data))
    assert rows(house, CondemnedRow) == 0
    collect(house)
    assert read(house) == data


@pytest.mark.parametrize("form", SEND)
def test_a_file_sent_while_it_is_removed_is_put_back(
    house: SimpleNamespace, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload finds the object there, waits for the transaction that removes it, and must not count on it."""
    data = secrets.token_bytes(6000)
    repository(house)
    SEND[form](house, data)
    collect(house, delay=timedelta(hours=1))
    store, placed, sent = house.storage.objects, threading.Event(), []
    remove, place = store.remove, store.place

    def removing(name: str) -> None:
        uploader.start()
        assert placed.wait(60), "the upload looks for the object while it is still there"
        remove(name)

    def placing(draft: Any, name: str) -> None:
        place(draft, name)
        placed.set()

    uploader = threading.Thread(target=lambda: sent.append(SEND[form](house, data)))
    monkeypatch.setattr(store, "remove", removing)
    monkeypatch.setattr(store, "place", placing)
    done = collect(house)
    uploader.join(90)
    assert done.removed and len(sent) == 1
    commit(house, sent[0])
    assert read(house) == data


@pytest.mark.parametrize("form", SEND)
def test_a_file_whose_upload_ends_before_the_removal_is_spared(
    house: SimpleNamespace, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = secrets.token_bytes(6000)
    repository(house)
    SEND[form](house, data)
    collect(house, delay=timedelta(hours=1))
    run = collector(house)
    mark = run._mark

    def marking() -> None:
        mark()
        SEND[form](house, data)  # behind all that was looked at, before the first removal

    monkeypatch.setattr(run, "_mark", marking)
    assert "xorbs" not in run.run().removed and "lfs" not in run.done.removed
    commit(house, hashlib.sha256(data).hexdigest())
    assert read(house) == data


@pytest.mark.parametrize("form", SEND)
@pytest.mark.parametrize("first", ["commit", "collection"])
def test_a_commit_and_a_collection_at_the_same_time(
    house: SimpleNamespace, form: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either the commit holds the file, or it is told to send the file again; never a revision without its bytes."""
    data = secrets.token_bytes(6000)
    repository(house)
    sha256 = SEND[form](house, data)
    run = collector(house)
    naming = run._naming.naming
    add = Publishing._decide

    if first == "commit":

        def looked(names: Any) -> Any:
            found = naming(names)
            monkeypatch.undo()
            commit(house, sha256)  # after the collection asked who names it, before it takes the row
            return found

        monkeypatch.setattr(run._naming, "naming", looked)
        run.run()
    else:

        def decided(*of: Any) -> Any:
            run.run()  # after the commit verified the file, before it counts
            return add(*of)

        monkeypatch.setattr(Publishing, "_decide", decided)
        with pytest.raises(ObjectMissing):
            commit(house, sha256)
        monkeypatch.undo()
        commit(house, SEND[form](house, data))
    for _ in range(2):
        collect(house)
    assert read(house) == data


@pytest.mark.parametrize("first", ["shard", "collection"])
def test_a_shard_and_a_collection_at_the_same_time(
    house: SimpleNamespace, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = secrets.token_bytes(6000)
    name, xorb = xorb_of(data)
    repository(house)
    house.storage.xet.put_xorb("demo", name, xorb)
    run = collector(house)
    if first == "shard":
        mark = run._mark

        def marking() -> None:
            mark()
            house.storage.xet.put_shard("demo", shard_of(data))

        monkeypatch.setattr(run, "_mark", marking)
        run.run()
    else:
        rebuilt = house.storage.xet._acceptance._rebuilt

        def rebuilding(*of: Any) -> Any:
            made = rebuilt(*of)
            run.run()
            return made

        monkeypatch.setattr(house.storage.xet._acceptance, "_rebuilt", rebuilding)
        with pytest.raises(BrokenShard, match="upload again"):
            house.storage.xet.put_shard("demo", shard_of(data))
        monkeypatch.undo()
        send_xet(house, data)
    commit(house, hashlib.sha256(data).hexdigest())
    for _ in range(2):
        collect(house)
    assert read(house) == data


def test_a_small_file_written_again_after_it_was_condemned_stays(house: SimpleNamespace) -> None:
    """Git objects have no rows: a commit that finds its blob there already must keep it."""
    repository(house)
    house.storage.put_regular(b"an old orphan")
    assert collect(house, delay=timedelta(hours=1)).condemned["git"].objects == 1
    house.publish("demo/m", {"notes.txt": b"an old orphan"})
    collect(house)
    assert read(house, "notes.txt") == b"an old orphan"


def test_a_small_file_written_while_it_is_removed_is_put_back(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(house)
    house.storage.put_regular(b"an old orphan")
    collect(house, delay=timedelta(hours=1))
    store, asked, written = house.storage.objects, threading.Event(), []
    remove, spare = store.remove, house.storage._git._spare

    def removing(name: str) -> None:
        writer.start()
        assert asked.wait(60)
        remove(name)

    def sparing(name: str) -> None:
        asked.set()
        spare(name)

    writer = threading.Thread(target=lambda: written.append(house.storage.put_regular(b"an old orphan")))
    monkeypatch.setattr(store, "remove", removing)
    monkeypatch.setattr(house.storage._git, "_spare", sparing)
    assert collect(house).removed["git"].objects == 1
    writer.join(90)
    assert b"".join(house.storage.read(written[0])) == b"an old orphan"


def test_a_removal_that_fails_is_tried_again(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    send_whole(house, b"x" * 3000)
    collect(house)

    def fails(name: str) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(house.storage.objects, "remove", fails)
        with pytest.raises(OSError, match="away"):
            collect(house)
    assert rows(house, CondemnedRow) == 1
    assert collect(house).removed["lfs"].objects == 1


def test_the_address_of_a_namespace_changes_with_its_xorbs_alone(house: SimpleNamespace) -> None:
    """Clients remember by address what they sent; what is gone must not be taken for sent."""
    xet = house.storage.xet
    repository(house)
    commit(house, send_xet(house, secrets.token_bytes(3000)))
    before = {tenant: xet.scope(tenant) for tenant in ("demo", "other")}
    token, _ = xet.token("demo", "write", repo=1, holder="")
    collect(house)
    assert xet.scope("demo") == before["demo"], "nothing of it went"
    send_xet(house, secrets.token_bytes(3000))
    send_xet(house, secrets.token_bytes(3000))
    collect(house)
    assert xet.scope("demo") not in before.values() and xet.scope("other") == before["other"]
    assert xet.grant(token).scope == before["demo"], "a token that was given out holds at its address until it ends"
    with house.database.reading() as session:
        assert session.get(EpochRow, "demo").epoch == 1


def test_many_objects_in_pages(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting_module, "_PAGE", 3)
    repository(house)
    kept = [secrets.token_bytes(50) for _ in range(8)]
    for number, data in enumerate(kept):
        commit(house, SEND["lfs" if number % 2 else "xet"](house, data), f"{number}.bin")
        SEND["lfs" if number % 3 else "xet"](house, secrets.token_bytes(50))
    rests: list[int] = []
    collect(house, rest=lambda: rests.append(1))
    removed = collect(house).removed
    assert removed["lfs"].objects + removed["xorbs"].objects == 8 and len(rests) > 10
    assert [read(house, f"{n}.bin") for n in range(8)] == kept


def test_two_collections_at_once_do_the_work_of_one(house: SimpleNamespace) -> None:
    repository(house)
    kept = secrets.token_bytes(500)
    commit(house, send_xet(house, kept))
    for _ in range(40):
        send_whole(house, secrets.token_bytes(50))
        send_xet(house, secrets.token_bytes(50))
    for _ in range(2):
        runs = [collector(house) for _ in range(2)]
        threads = [threading.Thread(target=run.run) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    total = [sum(c.objects for run in runs for c in [run.done.removed.get(kind)] if c) for kind in ("lfs", "xorbs")]
    assert total == [40, 40] and read(house) == kept
    assert not rows(house, CondemnedRow)


@pytest.mark.parametrize("seed", range(4))
def test_uploads_commits_and_collections_in_any_order_lose_nothing(house: SimpleNamespace, seed: int) -> None:
    """Writers send, commit and delete the same few files while collections run one after another."""
    import random

    pool = [bytes([n]) * (2000 + n) for n in range(6)]
    repository(house)
    stop, faults, acknowledged = threading.Event(), [], {}

    def writer(number: int) -> None:
        dice = random.Random(seed * 10 + number)
        for turn in range(10):
            data = dice.choice(pool)
            for _ in range(100):
                try:
                    commit(house, SEND[dice.choice(["lfs", "xet"])](house, data), f"{number}-{turn}.bin")
                    acknowledged[f"{number}-{turn}.bin"] = data
                    break
                except (ObjectMissing, BrokenShard, ContentNotFound):
                    pass  # told to send it again
                except Exception as error:
                    faults.append(repr(error))

    def cleaner() -> None:
        while not stop.is_set():
            try:
                collect(house, grace=timedelta(seconds=0.05), delay=timedelta(seconds=2))
            except Exception as error:
                faults.append(repr(error))

    cleaning = [threading.Thread(target=cleaner) for _ in range(2)]
    writing = [threading.Thread(target=writer, args=(n,)) for n in range(3)]
    for thread in (*cleaning, *writing):
        thread.start()
    for thread in writing:
        thread.join(100)
    stop.set()
    for thread in cleaning:
        thread.join(100)
    assert not faults and len(acknowledged) == 30
    collect(house)
    assert {path: read(house, path) for path in acknowledged} == acknowledged

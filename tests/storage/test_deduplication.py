"""The index of chunks that clients ask for."""

from typing import Any

from ecotone.storage import Storage, hashes


def test_files_that_begin_alike_can_all_be_sent(storage: Storage, forge: Any) -> None:
    begin = forge.sample(60_000)
    for number in range(3):
        data = begin + bytes([number]) * 50_000
        chunks = [begin, data[60_000:]]
        xorb, body = forge.xorb(chunks)
        storage.xet.put_xorb("demo", xorb, body)
        _, shard = forge.whole(data, chunks, xorb)
        assert storage.xet.put_shard("demo", shard) == 1
    first = hashes.to_text(hashes.chunk_hash(begin))
    assert storage.xet.deduplication.answer("demo", first)
    assert storage.xet.deduplication.answer("other", first) is None

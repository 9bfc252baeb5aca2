"""What the ledger costs on a request's path, in microseconds: `python benchmarks/ledger/records.py [FOLDER]`.

Best of 25 rounds each. FOLDER is where the chain is written, by default a temporary one.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ecotone.ledger import LedgerWriter, Rulings, records, request_id
from ecotone.ledger.lines import encode_all
from ecotone.ledger.usage import Place, piece

_ROUNDS = 25
_CALLS = 1600
_OWN = b'{"a":"' + b"x" * 392 + b'"}'
_SETTLED = {
    "request_id": "req-server-1a221138d22061a9fbd726849e1a0e5f", "project": "shop", "key": "k1", "user": None,
    "tags": [], "route": "assistant", "model": "far/gpt", "backend": "far", "face": "chat", "status": "done",
    "prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 0, "estimate": False, "cost": 1250000,
    "seconds": 0.4, "error": None,
}  # fmt: skip


def best(work: Callable[[], object], calls: int) -> float:
    found = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        found = min(found, (time.perf_counter() - began) / calls)
    return round(found * 1e6, 3)


def main(folder: Path) -> dict[str, float]:
    writer = LedgerWriter(folder, "bench", segment_bytes=1 << 40)
    items = [("opened", _OWN)] * 32
    one = items[:1]
    rulings, content = Rulings(writer), b'{"verdict":"allow"}'
    told = {
        "request_id": best(lambda: [request_id("server") for _ in range(_CALLS)], _CALLS),
        "ruling_known": best(lambda: [rulings.record(content) for _ in range(_CALLS)], _CALLS),
        "record_of_400_bytes_encoded_32_at_once": best(
            lambda: [encode_all(1, records.GENESIS, items) for _ in range(_CALLS // 32)], _CALLS
        ),
        "record_of_400_bytes_written_32_at_once": best(
            lambda: [writer.append_all(items) for _ in range(_CALLS // 32)], _CALLS
        ),
        "record_of_400_bytes_written_alone": best(lambda: [writer.append_all(one) for _ in range(_CALLS)], _CALLS),
    }
    writer.close()
    settled = LedgerWriter(folder, "settled")
    for _ in range(50):
        settled.append_all([("settled", records.packed(_SETTLED))] * 32)
    settled.close()
    (segment,) = (folder / "settled").glob("*.jsonl")
    told["settled_record_added_up"] = best(lambda: piece(segment, Place(), 1 << 24), _CALLS)
    return told


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary)), indent=2))

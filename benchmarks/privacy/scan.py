"""How fast text is looked through: MB/s for each kind of text, microseconds for a chat body and a streamed chunk.

Prints a table and, as its last line, JSON. The reference is the scan as it was before (`reference.py`), run in turns
with ours in this process; times are the best of many short runs, so that a busy machine says little.

    python benchmarks/privacy/scan.py
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import reference
import samples

from ecotone.privacy import Pseudonyms, find, inspect, quick

BARS = {"body_us": 10, "body64k_mb_s": 40, "chunk_us": 3, "hold_ms": 5}


def best(*works: Callable[[], Any], rounds: int = 15, seconds: float = 0.01) -> list[float]:
    """Seconds of one call of each, the best of many runs in turns."""
    counts, found = [], []
    for work in works:
        work()
        began = time.perf_counter()
        work()
        counts.append(max(1, int(seconds / (time.perf_counter() - began + 1e-9))))
        found.append(float("inf"))
    for _ in range(rounds):
        for place, work in enumerate(works):
            began = time.perf_counter()
            for _ in range(counts[place]):
                work()
            found[place] = min(found[place], (time.perf_counter() - began) / counts[place])
    return found


def texts() -> dict[str, dict[str, float]]:
    """MB of UTF-8 in a second, ours and the reference, for each kind of text."""
    table = {}
    print(f"{'text of 64 Ki characters':26} {'MB/s':>8} {'before':>8} {'ratio':>7}")
    for kind, text in samples.kinds().items():
        size = len(text.encode()) / 1e6
        ours, plain = best(lambda text=text: find(text), lambda text=text: reference.find(text))
        table[kind] = {"mb_s": round(size / ours, 1), "ratio": round(plain / ours, 1)}
        print(f"{kind:26} {size / ours:8.1f} {size / plain:8.1f} {plain / ours:7.1f}")
    return table


def bodies() -> dict[str, float]:
    """Microseconds for the usual chat body and for one of 64 KB."""
    body, large = samples.chat(), samples.chat(samples.USER + samples.filled(samples.FILLER, 64_000))
    quickly, whole, plain = best(lambda: quick(body), lambda: inspect(body), lambda: reference.inspect(body))
    print(
        f"{'body of 750 bytes':26} {quickly * 1e6:8.1f} us quick, {whole * 1e6:.1f} inspect, {plain * 1e6:.1f} before"
    )
    large_quick, large_plain = best(lambda: quick(large), lambda: reference.inspect(large))
    size = len(json.dumps(large)) / 1e6
    print(f"{'body of 64 KB':26} {size / large_quick:8.1f} MB/s, {size / large_plain:.1f} before")
    return {
        "body_us": round(quickly * 1e6, 2),
        "body_inspect_us": round(whole * 1e6, 2),
        "body_ratio": round(plain / quickly, 1),
        "body64k_mb_s": round(size / large_quick, 1),
        "body64k_ratio": round(large_plain / large_quick, 1),
    }


def chunks() -> float:
    """Microseconds for a chunk of 20 characters of an answer in which no placeholder begins."""
    names = Pseudonyms()
    names.mask(samples.FOUND)
    stream = names.restorer()
    text = samples.filled(samples.SYSTEM + " " + samples.USER, 2_000)
    pieces = [text[place : place + 20] for place in range(0, len(text), 20)]
    (took,) = best(lambda: [stream.feed(piece) for piece in pieces])
    print(f"{'chunk of 20 characters':26} {took / len(pieces) * 1e6:8.2f} us")
    return round(took / len(pieces) * 1e6, 2)


def longest_hold(text: str) -> float:
    """Milliseconds that a thread which scans a text keeps the interpreter, at the longest.

    Counted in the thread's own processor time between two turns of a thread that waits, so that other programs have
    no part in it; it includes the interval in which the interpreter changes threads, set to 0.1 ms here.
    """
    before, longest, done = sys.getswitchinterval(), 0.0, threading.Event()
    sys.setswitchinterval(0.0001)
    thread = threading.Thread(target=lambda: (find(text), done.wait()))
    thread.start()
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    last, still = 0.0, 0
    while still < 100:
        time.sleep(0.0002)
        now = time.clock_gettime(clock)
        longest, last, still = max(longest, now - last), now, still + 1 if now == last else 0
    done.set()
    thread.join()
    sys.setswitchinterval(before)
    return longest * 1e3


def holds() -> float:
    """The longest hold over 10 million characters of each kind, each the shortest of three tries."""
    found = {
        kind: min(longest_hold(text) for _ in range(3))
        for kind, text in samples.kinds(10_000_000).items()
        if kind != "full of findings"
    }
    worst = max(found, key=lambda kind: found[kind])
    print(f"{'10 MB in a thread':26} {found[worst]:8.1f} ms at a time at the longest ({worst})")
    print(", ".join(f"{kind} {took:.1f}" for kind, took in found.items()))
    return round(found[worst], 1)


def main() -> None:
    """Measures everything and says which bars are missed."""
    table = texts()
    told: dict[str, Any] = {**bodies(), "chunk_us": chunks(), "hold_ms": holds(), "texts": table}
    missed = [name for name, bar in BARS.items() if (told[name] < bar if name.endswith("mb_s") else told[name] > bar)]
    print(f"missed: {', '.join(missed) or 'none'}")
    print(json.dumps(told))


if __name__ == "__main__":
    main()

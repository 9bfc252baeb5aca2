"""A range of 1 MB in the middle of a very large file: the time to its first byte."""

import http.client
import statistics
import time
from pathlib import Path

import ground
from ground import MIB, TOKEN

ASKED = 50


def measure(folder: Path, gib: int) -> dict[str, float]:
    """Milliseconds to the first byte, median and worst of 50 ranges around the middle."""
    source = folder / "model.bin"
    block = ground.random_file(folder / "block", 256 * MIB).read_bytes()
    with open(source, "wb") as out:
        for number in range(gib * 4):
            out.write(number.to_bytes(8, "little"))  # no two blocks alike, most of their chunks are
            out.write(block)
    size = source.stat().st_size
    with ground.ecotone(folder / "data") as hub:
        print(
            f"upload of {size / 1e9:.1f} GB: {hub.timed('up', 'bench/large', source, folder / 'home', xet=True):.0f} s"
        )
        source.unlink()
        times = sorted(_first_byte(hub.port, size // 2 + number * 7 * MIB) for number in range(ASKED))
    found = {
        "range_first_byte_ms_p50": round(statistics.median(times) * 1000, 2),
        "range_first_byte_ms_max": round(times[-1] * 1000, 2),
    }
    print(found, flush=True)
    return found


def _first_byte(port: int, start: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    headers = {"Authorization": f"Bearer {TOKEN}", "Range": f"bytes={start}-{start + 999_999}"}
    began = time.perf_counter()
    connection.request("GET", "/bench/large/resolve/main/model.bin", headers=headers)
    answer = connection.getresponse()
    answer.read(1)
    took = time.perf_counter() - began
    if answer.status != 206 or len(answer.read()) != 999_999:
        raise SystemExit(f"the range was answered with {answer.status}")
    connection.close()
    return took

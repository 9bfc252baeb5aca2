"""Memory of the server while eight clients move data, and after."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ground
from ground import MIB, Hub

CLIENTS = 8
FILE = 256 * MIB


def measure(folder: Path, gib: int) -> dict[str, float]:
    """Peak of RssAnon over all server processes while eight clients move `gib` GiB, and growth in the second half."""
    with ground.ecotone(folder / "data") as hub:
        peaks = _Peaks(hub)
        sources = [ground.random_file(folder / f"source-{n}", FILE) for n in range(CLIENTS)]
        halves = []
        moves = gib * 1024 * MIB // (FILE * CLIENTS * 2)
        with ThreadPoolExecutor(CLIENTS) as clients:
            for half in range(2):
                for turn in range(max(moves // 2, 1)):
                    jobs = [
                        clients.submit(_move, hub, folder, n, f"{half}-{turn}", source)
                        for n, source in enumerate(sources)
                    ]
                    for job in jobs:
                        job.result()
                time.sleep(1)
                halves.append(hub.anonymous_bytes())
        peaks.stop()
    found = {
        "rss_anon_peak_mb": round(peaks.most / 1e6, 1),
        "rss_anon_after_half_mb": round(halves[0] / 1e6, 1),
        "rss_anon_after_mb": round(halves[1] / 1e6, 1),
    }
    print(found, flush=True)
    return found


def _move(hub: Hub, folder: Path, number: int, turn: str, source: Path) -> None:
    """Upload by Xet or LFS, in turns, and download again."""
    home, back, repo = folder / f"home-{number}", folder / f"back-{number}", f"bench-{turn}-{number}/model"
    xet = number % 2 == 0
    hub.timed("up", repo, source, home, xet=xet)
    hub.timed("down", repo, back, home, xet=xet)
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(back)


class _Peaks:
    def __init__(self, hub: Hub) -> None:
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(hub,), daemon=True)
        self._thread.start()

    def _watch(self, hub: Hub) -> None:
        while not self._ended.wait(0.1):
            self.most = max(self.most, hub.anonymous_bytes())

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

"""Upkeep of a large store: garbage collection (time, memory, how long a writer waits), conversion of whole files.

    make bench-collect
    python benchmarks/hub/collect.py --objects 1000000 --mib 256

The store is a local folder and SQLite; objects are small files, half of them named by a repository. Conversion is
compared with hf_xet's own (`upload_files` into a folder), reading with the whole file before it was converted. Ends
with one line of JSON.
"""

import argparse
import hashlib
import json
import os
import secrets
import tempfile
import threading
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ecotone.accounts import SYSTEM
from ecotone.app.tables import METADATA
from ecotone.app.upkeep import Pace
from ecotone.catalog import Catalog
from ecotone.catalog.living import Living
from ecotone.catalog.models import ObjectRow
from ecotone.database import Database, utc_now
from ecotone.licences import KnowledgeBase
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage.collecting import Collector
from ecotone.storage.converting import Converter
from ecotone.storage.models import LfsObjectRow


def resident() -> int:
    """MiB of this process in memory that are its own."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) // 1024
    raise AssertionError


class Peak:
    """The most memory seen while the block runs."""

    def __enter__(self) -> "Peak":
        self.before = self.most = resident()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()


def filled(database: Database, storage: Storage, catalog: Catalog, data: Path, number: int) -> None:
    """Objects of 10 bytes without waiting for the disk; every second one is named by a repository."""
    model = catalog.create("demo/m", private=False, actor=SYSTEM)
    with database.writing() as session:
        for first in range(0, number, 10_000):
            some = range(first, min(first + 10_000, number))
            names = [hashlib.sha256(str(n).encode()).hexdigest() for n in some]
            row = {"tenant": "demo", "size": 10, "created": utc_now()}
            session.execute(sa.insert(LfsObjectRow), [row | {"sha256": name} for name in names])
            session.execute(sa.insert(ObjectRow), [{"model_key": model.key, "name": name} for name in names[::2]])
            for name in names:
                path = data / "objects" / "lfs" / name[:2] / name[2:]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"0123456789")


def collected(number: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        database = Database(settings.sql_url)
        METADATA.create_all(database.engine)
        storage = Storage(database, settings)
        catalog = Catalog(database, storage, KnowledgeBase.load(), settings)
        filled(database, storage, catalog, settings.data, number)
        waits, stop = [], threading.Event()

        def write() -> None:
            while not stop.wait(0.1):
                began = time.perf_counter()
                storage.put_git_object("blob", secrets.token_bytes(20))
                with database.writing():
                    pass
                waits.append(time.perf_counter() - began)

        def run() -> Any:
            grace, delay = timedelta(0), timedelta(0)
            living = Living(database)
            collector = Collector(database, storage.objects, living, grace=grace, delay=delay, rest=Pace())
            return collector.run()

        writer = threading.Thread(target=write)
        writer.start()
        with Peak() as peak:
            first, second = run(), run()
        stop.set()
        writer.join()
        database.dispose()
    assert second.removed["lfs"].objects == number // 2
    waits.sort()
    return {
        "objects": number,
        "condemn_s": round(first.seconds, 1),
        "remove_s": round(second.seconds, 1),
        "memory_mib": peak.most - peak.before,
        "writer_median_ms": round(waits[len(waits) // 2] * 1000, 1),
        "writer_worst_ms": round(waits[-1] * 1000, 1),
    }


def converted(mib: int) -> dict[str, Any]:
    import hf_xet

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "data")
        settings.data.mkdir()
        database = Database(settings.sql_url)
        METADATA.create_all(database.engine)
        storage = Storage(database, settings)
        source = Path(folder) / "f.bin"
        source.write_bytes(os.urandom(mib << 20))
        content = storage.import_file("demo", source)
        whole = rate(storage, content, mib)
        began = time.perf_counter()
        with Peak() as peak:
            Converter(database, storage.lfs, storage.xet).run()
        ours = mib / (time.perf_counter() - began)
        storage.objects.remove(f"lfs/{content.sha256[:2]}/{content.sha256[2:]}")  # type: ignore[index]
        xet = rate(storage, content, mib)
        cas = Path(folder) / "cas"
        cas.mkdir()
        began = time.perf_counter()
        warnings.simplefilter("ignore")
        hf_xet.upload_files([str(source)], f"local://{cas}", None, None, None, "model")
        theirs = mib / (time.perf_counter() - began)
        database.dispose()
    return {
        "convert_mib_s": round(ours),
        "hf_xet_cut_and_write_only_mib_s": round(theirs),
        "convert_memory_mib": peak.most - peak.before,
        "read_whole_mib_s": round(whole),
        "read_converted_mib_s": round(xet),
    }


def rate(storage: Storage, content: Any, mib: int) -> float:
    began = time.perf_counter()
    for _ in storage.read(content):
        pass
    return mib / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--mib", type=int, default=256)
    asked = parser.parse_args()
    print(json.dumps(collected(asked.objects) | converted(asked.mib)))


if __name__ == "__main__":
    main()

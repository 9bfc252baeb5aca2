"""What need not be sent or kept twice: an insertion into a file, and many merges of one base."""

import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import ground
import numpy as np
from ground import MIB, Hub
from safetensors.numpy import save_file

INSERTED = 1024
WHOLE = 134_217_728
MERGES = 50


def measure(folder: Path) -> dict[str, float]:
    """Share of the bytes sent again after 1 KB was inserted, with the client's cache and with a new one; and the share
    of 50 merges' bytes that is stored."""
    with Relay() as relay, ground.ecotone(folder / "data", ECOTONE_PUBLIC_URL=relay.url) as hub:
        relay.start(hub.port)
        seen = Hub(relay.url, relay.port, hub.pid)
        first = ground.random_file(folder / "first.bin", WHOLE)
        data = first.read_bytes()
        second = folder / "second.bin"
        second.write_bytes(data[: WHOLE // 2] + bytes(INSERTED) + data[WHOLE // 2 :])
        seen.timed("up", "dedup/first", first, folder / "home", xet=True)
        shares = {}
        for name, home in (("dedup_sent_share_warm", folder / "home"), ("dedup_sent_share", folder / "other-home")):
            before = relay.sent
            seen.timed("up", f"dedup/{name}", second, home, xet=True)
            shares[name] = round((relay.sent - before) / WHOLE, 4)
        kept, total = merges(folder, hub)
    found = {**shares, "merges_stored_share": round(kept / total, 4)}
    print(f"50 merges of one base: {kept / 1e6:.1f} MB stored of {total / 1e6:.1f} MB")
    print(found, flush=True)
    return found


class Relay:
    """In front of the server, on the address that the server tells as its own; counts what clients send."""

    def __init__(self) -> None:
        self.sent = 0
        self._to = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Relay":
        return self

    def start(self, port: int) -> None:
        self._to = port
        threading.Thread(target=self._accept, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(MIB):
                self.sent += len(data) if counts else 0
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()


def merges(folder: Path, hub: Hub) -> tuple[int, int]:
    """Bytes that 50 merges of rank-8 adapters into the query and value weights of one base take, and their sum."""
    rng = np.random.default_rng(7)
    width, layers = 512, 4
    base: dict[str, Any] = {}
    for layer in range(layers):
        for part in ("q", "k", "v", "o", "up", "down"):
            base[f"layers.{layer}.{part}.weight"] = rng.standard_normal((width, width), dtype=np.float32)
    base["embed.weight"] = rng.standard_normal((8000, width), dtype=np.float32)
    objects, before, total = folder / "data" / "objects" / "xorbs", 0, 0
    before = _size(objects)
    for number in range(MERGES):
        merged = dict(base)
        for layer in range(layers):
            for part in ("q", "v"):
                low = rng.standard_normal((width, 8), dtype=np.float32) @ rng.standard_normal(
                    (8, width), dtype=np.float32
                )
                merged[f"layers.{layer}.{part}.weight"] = base[f"layers.{layer}.{part}.weight"] + low * 0.01
        path = folder / "model.safetensors"
        save_file(merged, path)
        total += path.stat().st_size
        home = folder / f"merge-home-{number}"
        hub.timed("up", f"merges/m{number}", path, home, xet=True, name="model.safetensors")
        shutil.rmtree(home)
    return _size(objects) - before, total


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

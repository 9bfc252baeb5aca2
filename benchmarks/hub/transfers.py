"""Transfers of one large file by real clients, each against the same client and a reference in the same round."""

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ground
from ground import MIB, Hub

Pair = tuple[Callable[[], float], Callable[[], float]]


def measure(folder: Path, mib: int, rounds: int) -> dict[str, float]:
    """MB/s of both sides are printed for each kind of transfer; returns the ratios."""
    times: dict[str, Any] = {}
    with ground.ecotone(folder / "data") as hub, ground.nginx(folder, folder / "flat") as flat:
        folder.joinpath("flat").mkdir()
        for number in range(rounds):
            _round(Round(folder, hub, flat, number, mib), times)
            print(f"round {number + 1} of {rounds}", flush=True)
        print(f"curl of compressed chunks: {compressed(folder, hub, mib):.0f} MB/s", flush=True)
    found = {}
    for name, (ours, theirs) in times.items():
        mine, other = (mib * MIB / 1e6 / ground.best_third(side) for side in (ours, theirs))
        found[name] = round(mine / other, 3)
        print(f"{name}: {mine:.0f} MB/s, reference {other:.0f} MB/s, ratio {found[name]}", flush=True)
    return found


class Round:
    """One file, its places, and what is done with it."""

    def __init__(self, folder: Path, hub: Hub, flat: Hub | None, number: int, mib: int) -> None:
        self.folder, self.hub, self.flat = folder, hub, flat
        self.source = ground.random_file(folder / "flat" / "model.bin", mib * MIB)
        self.size = mib * MIB
        self.number = number
        self._homes = 0

    def home(self) -> Path:
        self._homes += 1
        return self.folder / f"home-{self._homes}"

    def up(self, hub: Hub, repo: str, *, xet: bool) -> Callable[[], float]:
        return lambda: hub.timed("up", repo, self.source, self.home(), xet=xet)

    def down(self, hub: Hub, repo: str, *, xet: bool) -> Callable[[], float]:
        def action() -> float:
            target = self.folder / "back"
            took = hub.timed("down", repo, target, self.home(), xet=xet)
            if (target / "model.bin").stat().st_size != self.size:
                raise SystemExit("the download is not whole")
            shutil.rmtree(target)
            return took

        return action

    def curl(self, hub: Hub, path: str) -> Callable[[], float]:
        return lambda: hub.curl(path, self.folder / "curl.bin")

    def clean(self) -> None:
        for home in self.folder.glob("home-*"):
            shutil.rmtree(home)


def _round(this: Round, times: dict[str, Any]) -> None:
    state: dict[str, Any] = {"file": str(this.source), "size": this.size}
    with open(this.source, "rb") as file:
        state["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    xet, lfs = f"bench-xet/n{this.number}", f"bench-lfs/n{this.number}"
    with ground.answerer(this.folder, state) as plain:
        pairs = {
            "xet_up_vs_sink": (this.up(this.hub, xet, xet=True), this.up(plain, "bench/model", xet=True)),
            "lfs_up_vs_sink": (this.up(this.hub, lfs, xet=False), this.up(plain, "bench/model", xet=False)),
            "lfs_down_vs_static": (this.down(this.hub, lfs, xet=False), this.down(plain, "bench/model", xet=False)),
        }
        ground.interleaved(pairs, times)
    if this.flat is not None:
        put = state | {"put": f"{this.flat.url}/put/{this.number}"}
        with ground.answerer(this.folder, put) as plain:
            again = f"bench-lfs-{this.number}/again"
            kept = (this.up(this.hub, again, xet=False), this.up(plain, "bench/model", xet=False))
            ground.interleaved({"lfs_up_vs_static": kept}, times)
        this.folder.joinpath("put", str(this.number)).unlink()
    state |= {"xet_on": True, **as_stored(this.hub, this.folder / "data", xet)}
    with ground.answerer(this.folder, state) as plain:
        down = (this.down(this.hub, xet, xet=True), this.down(plain, "bench/model", xet=True))
        ground.interleaved({"xet_down_vs_static": down}, times)
    if this.flat is not None:
        theirs = this.curl(this.flat, "/model.bin")
        pairs = {
            "curl_vs_nginx": (this.curl(this.hub, f"/{xet}/resolve/main/model.bin"), theirs),
            "curl_lfs_vs_nginx": (this.curl(this.hub, f"/{lfs}/resolve/main/model.bin"), theirs),
        }
        ground.interleaved(pairs, times)
    this.clean()


def compressed(folder: Path, hub: Hub, mib: int) -> float:
    """MB/s of curl for a file whose chunks are stored compressed: weights of which only every second byte is noise."""
    data = bytearray((mib // 4) * MIB)
    data[::2] = random.Random(3).randbytes(len(data) // 2)
    source = folder / "packed.bin"
    source.write_bytes(data)
    hub.timed("up", "bench-packed/m", source, folder / "home-packed", xet=True)
    took = [hub.curl("/bench-packed/m/resolve/main/model.bin", folder / "curl.bin") for _ in range(5)]
    return len(data) / 1e6 / min(took)


def as_stored(hub: Hub, data: Path, repo: str) -> dict[str, Any]:
    """The file's terms and the places of its xorbs, for the answerer to serve the same bytes."""
    found, _ = hub.json(f"/api/models/{repo}/tree/main")
    name = next(row["xetHash"] for row in found if row["path"] == "model.bin")
    token, _ = hub.json(f"/api/models/{repo}/xet-read-token/main")
    told, _ = hub.json(token["casUrl"].removeprefix(hub.url) + f"/v2/reconstructions/{name}", token["accessToken"])
    terms = [{"hash": t["hash"], "range": t["range"], "length": t["unpacked_length"]} for t in told["terms"]]
    places = {t["hash"]: str(data / "objects" / "xorbs" / t["hash"][:2] / t["hash"][2:]) for t in told["terms"]}
    return {"xet": name, "terms": terms, "xorbs": places}

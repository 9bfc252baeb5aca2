"""Seconds and memory of `git clone` from the hub, against the same git reading the same history from disk.

    python benchmarks/hub/clone.py [--files 2000] [--commits 300] [--rounds 12]

Starts `ecotone up` in a temporary folder, commits through its API, and clones over HTTP: once for the first reader, for
whom the server makes its copy, then in rounds interleaved with `git clone --no-local` of a bare clone on disk.
"""

import argparse
import base64
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from tests.running import Running, running

REPO = "bench/history"


def fill(http: httpx.Client, files: int, commits: int) -> None:
    """A first commit with all files, then commits that change seven each; about 3 kB a file."""
    chance = random.Random(1)
    names = [f"d{i % 20:02d}/f{i:04d}.txt" for i in range(files)]
    http.post("/api/repos/create", json={"name": REPO}).raise_for_status()
    for number in range(commits):
        changed = names if number == 0 else chance.sample(names, 7)
        lines = [{"key": "header", "value": {"summary": f"Commit {number}"}}]
        for name in changed:
            text = "".join(chance.choices("abcdefghij \n", k=3000)).encode()
            content = base64.b64encode(text).decode()
            lines.append({"key": "file", "value": {"path": name, "content": content, "encoding": "base64"}})
        body = "\n".join(json.dumps(line) for line in lines)
        http.post(f"/api/models/{REPO}/commit/main", content=body, timeout=300).raise_for_status()


def cloned(source: str, folder: Path, *flags: str) -> float:
    target = folder / "out"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_TERMINAL_PROMPT": "0"}
    began = time.perf_counter()
    subprocess.run(["git", "clone", "-q", "--bare", *flags, source, target], env=env, check=True)
    taken = time.perf_counter() - began
    shutil.rmtree(target)
    return taken


def server_memory(server: Running) -> float:
    """RssAnon of the server process, in MB."""
    status = Path(f"/proc/{server.server_pid}/status").read_text()
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("RssAnon"))


def best(times: list[float]) -> float:
    """The mean of the best third."""
    kept = sorted(times)[: max(1, len(times) // 3)]
    return sum(kept) / len(kept)


def measure(files: int, commits: int, rounds: int) -> dict[str, float | int]:
    with tempfile.TemporaryDirectory() as work, running(Path(work) / "house") as server:
        folder = Path(work)
        fill(server.http, files, commits)
        before = server_memory(server)
        url = f"{server.url}/{REPO}"
        first = cloned(url, folder)
        subprocess.run(["git", "clone", "-q", "--bare", url, folder / "disk"], check=True)
        times: dict[str, list[float]] = {"hub": [], "disk": [], "shallow": [], "partial": []}
        for _ in range(rounds):
            times["hub"].append(cloned(url, folder))
            times["disk"].append(cloned(str(folder / "disk"), folder, "--no-local"))
            times["shallow"].append(cloned(url, folder, "--depth", "1"))
            times["partial"].append(cloned(url, folder, "--filter=blob:none"))
        size = sum(f.stat().st_size for f in (folder / "disk" / "objects").rglob("*") if f.is_file())
        return {
            "files": files,
            "commits": commits,
            "pack_mb": round(size / 1e6, 1),
            "first_clone_s": round(first, 2),
            **{f"{name}_s": round(best(found), 3) for name, found in times.items()},
            "server_memory_before_mb": round(before, 1),
            "server_memory_after_mb": round(server_memory(server), 1),
        }


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--files", type=int, default=2000)
    asked.add_argument("--commits", type=int, default=300)
    asked.add_argument("--rounds", type=int, default=12)
    print(json.dumps(measure(**vars(asked.parse_args()))))

"""`kill -9` of a server under uploads, commits, conversions and collections, round after round, and what must hold.

One round: clients at the wire work on one repository until the whole installation is killed at a random moment; the
store is checked as it lies, byte for byte; then the server starts again, and each client asks again for what it did not
get an answer to. Shared by the tests and by `benchmarks/hub/crash.py`.
"""

import base64
import hashlib
import json
import random
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ecotone.app.checking import Check
from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.storage import Signer, Storage, hashes, shards
from tests.running import ADMIN, Running

REPO = "crash/m"
KINDS = ("xet", "lfs", "parts")
SETTINGS = {
    "ECOTONE_COLLECT_SECONDS": "0",
    "ECOTONE_COLLECT_DELAY": "6",  # longer than a commit takes here
    "ECOTONE_COLLECT_GRACE": "20",
}


class Refused(Exception):
    """The server answered something else than was expected."""


@dataclass
class File:
    """What a client sends in one commit: a large file, and a small one that must come and go with it."""

    path: str
    kind: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Told:
    """What clients know: what was acknowledged, and what they never had an answer to."""

    acknowledged: dict[str, File] = field(default_factory=dict)
    open: dict[str, File] = field(default_factory=dict)


class Client:
    """Speaks the wire, as clients do, with one connection."""

    def __init__(self, server: Running) -> None:
        self._http = httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=120)
        self._url = server.url
        self._signer = Signer((server.data / "secrets" / "storage").read_bytes())

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, *, expect: tuple[int, ...] = (200, 202), **how: Any) -> httpx.Response:
        answer = self._http.request(method, path, **how)
        if answer.status_code not in expect:
            raise Refused(f"{method} {path[:80]}: {answer.status_code} {answer.text[:300]}")
        return answer

    def send(self, file: File, repo: str = REPO) -> None:
        """Upload and commit; returns when the commit was acknowledged."""
        getattr(self, f"_{file.kind}")(file, repo)
        note = {"path": file.path + ".txt", "content": base64.b64encode(file.sha256.encode()).decode()}
        lines = (
            {"key": "header", "value": {"summary": file.path}},
            {
                "key": "lfsFile",
                "value": {"path": file.path, "algo": "sha256", "oid": file.sha256, "size": len(file.data)},
            },
            {"key": "file", "value": note | {"encoding": "base64"}},
        )
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        self.ask("POST", f"/api/models/{repo}/commit/main", content=body)

    def _xet(self, file: File, repo: str) -> None:
        told = self.ask("GET", f"/api/models/{repo}/xet-write-token/main").json()
        how = {"headers": {"authorization": f"Bearer {told['accessToken']}"}}
        chunks = [file.data[i : i + 60_000] for i in range(0, len(file.data), 60_000)]
        nodes = [(hashes.chunk_hash(c), len(c)) for c in chunks]
        name = hashes.tree_root(nodes)
        body = b"".join(b"\0" + len(c).to_bytes(3, "little") + b"\0" + len(c).to_bytes(3, "little") + c for c in chunks)
        self.ask("POST", f"{told['casUrl']}/v1/xorbs/default/{hashes.to_text(name)}", content=body, **how)
        proof = hashes.verification_hash(b"".join(digest for digest, _ in nodes))
        raw = bytes.fromhex(file.sha256)
        shard = (
            shards.TAG + struct.pack("<QQ", 2, 0),
            hashes.file_hash(nodes) + struct.pack("<4I", 3 << 30, 1, 0, 0),
            name + struct.pack("<4I", 0, len(file.data), 0, len(chunks)),
            proof + bytes(16),
            b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)) + bytes(16),
            (b"\xff" * 32 + bytes(16)) * 2,
        )
        self.ask("POST", f"{told['casUrl']}/v1/shards", content=b"".join(shard), **how)

    def _lfs(self, file: File, repo: str) -> None:
        body = {
            "operation": "upload",
            "objects": [{"oid": file.sha256, "size": len(file.data)}],
            "transfers": ["basic"],
        }
        (row,) = self.ask("POST", f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"]
        if "actions" in row:
            self.ask("PUT", row["actions"]["upload"]["href"], content=file.data)
            self.ask("POST", row["actions"]["verify"]["href"], json={})

    def _parts(self, file: File, repo: str) -> None:
        """In parts smaller than the hub would choose, at addresses signed with the installation's own secret."""
        upload, size = hashlib.sha256(file.path.encode()).hexdigest()[:32], 400_000
        parts = [file.data[i : i + size] for i in range(0, len(file.data), size)]
        claims = {"t": repo.split("/")[0], "o": file.sha256, "n": len(file.data), "u": upload}

        def address(operation: str, **more: Any) -> str:
            token = self._signer.sign({"purpose": f"lfs-{operation}", **claims, **more}, seconds=600)
            return f"/lfs/{operation}/{token}"

        for number, part in enumerate(parts, 1):
            self.ask("PUT", address("part", p=number), content=part)
        self.ask("POST", address("complete", c=len(parts)), json={})

    def read(self, path: str) -> bytes:
        return self.ask("GET", f"/{REPO}/resolve/main/{path}", follow_redirects=True).content

    def paths(self) -> set[str]:
        rows: list[Any] = self.ask("GET", f"/api/models/{REPO}/tree/main", params={"limit": 1000}).json()
        return {row["path"] for row in rows}


class Crashing:
    """An installation that is killed again and again.

    Args:
        folder: an empty one.
        seed: what happens when is drawn from it and from the round's number.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.server = Running(folder, **SETTINGS)
        self.seed = seed
        self.told = Told()
        self.rounds = 0
        self.kills: dict[str, int] = {}
        self.server.start()
        self.server.http.post("/api/repos/create", json={"name": REPO.split("/")[1], "organization": "crash"})

    def close(self) -> None:
        self.server.http.close()
        self.server.stop()

    def round(self) -> None:
        """Load, kill, check, start, ask again, check. Raises AssertionError naming seed and round."""
        dice = random.Random(f"{self.seed}-{self.rounds}")
        try:
            self._load_and_kill(dice)
            self.check_store()
            self.server.start()
            self._check_visible()
            self._ask_again()
        except (AssertionError, Refused, httpx.HTTPError) as error:
            raise AssertionError(f"seed {self.seed}, round {self.rounds}: {type(error).__name__}: {error}") from error
        self.rounds += 1

    def _load_and_kill(self, dice: random.Random) -> None:
        stop, refusals = threading.Event(), list[str]()
        work = [threading.Thread(target=self._write, args=(n, dice.random(), stop, refusals)) for n in range(3)]
        work.append(threading.Thread(target=self._tidy, args=(dice.random(), stop, refusals)))
        for thread in work:
            thread.start()
        time.sleep(dice.uniform(0.05, 1.5))
        stop.set()
        self.server.kill()
        for thread in work:
            thread.join(60)
        assert not refusals, refusals[0]

    def _write(self, number: int, seed: float, stop: threading.Event, refusals: list[str]) -> None:
        dice, client = random.Random(seed), Client(self.server)
        for turn in range(1000):
            kind = dice.choice(KINDS)
            size = dice.randrange(1000, 120_000 if kind == "xet" else 1_500_000)
            file = File(f"{self.rounds}/{number}-{turn}.bin", kind, dice.randbytes(size))
            self.told.open[file.path] = file
            try:
                client.send(file)
            except httpx.HTTPError:
                break  # the server is gone
            except Refused as error:
                if not stop.is_set():
                    refusals.append(str(error))
                break
            self.told.acknowledged[file.path] = self.told.open.pop(file.path)
            if stop.is_set():
                break
        client.close()

    def _tidy(self, seed: float, stop: threading.Event, refusals: list[str]) -> None:
        """Make garbage; collect and convert."""
        dice, client = random.Random(seed), Client(self.server)
        repo = f"crash/t{self.rounds}"
        try:
            client.ask("POST", "/api/repos/create", json={"name": repo}, expect=(200, 409))
            for what in ("collect", "convert"):
                client.ask("POST", f"/api/ecotone/v1/store/{what}", json={})
            for number in range(2):
                client.send(File(f"{number}.bin", dice.choice(KINDS), dice.randbytes(30_000)), repo)
            client.ask("DELETE", "/api/repos/delete", json={"name": repo})
        except httpx.HTTPError:
            pass
        except Refused as error:
            if not stop.is_set():
                refusals.append(str(error))
        client.close()

    def check_store(self) -> dict[str, int]:
        """The data as it lies on the disk: nothing wrong, byte for byte. Returns the orphans by kind."""
        settings = Settings(data=self.server.data)
        database = Database(settings.sql_url)
        try:
            found = Check(settings, database, Storage(database, settings), deep=True).run()
        finally:
            database.dispose()
        assert found.ok, [(f.kind, f.name, f.what, f.affects) for f in found.faults[:5]]
        return found.orphans

    def _check_visible(self) -> None:
        client = Client(self.server)
        answered = {path: f for path, f in self.told.acknowledged.items() if path.startswith(f"{self.rounds}/")}
        seen: set[str] = set()
        for row in client.ask(
            "GET", f"/api/models/{REPO}/tree/main", params={"recursive": "true", "limit": 1000}
        ).json():
            seen.add(row["path"])
        seen = {path for path in seen if path.startswith(f"{self.rounds}/")}
        for path, file in answered.items():
            assert path in seen, f"{path} was acknowledged and is gone"
            assert client.read(path) == file.data, f"{path} was acknowledged and has other bytes"
        for path, file in self.told.open.items():
            assert (path in seen) == (path + ".txt" in seen), f"{path} is half visible"
            if path in seen:
                assert client.read(path) == file.data and client.read(path + ".txt").decode() == file.sha256
        client.close()

    def _ask_again(self) -> None:
        client = Client(self.server)
        for path, file in list(self.told.open.items()):
            client.send(file)
            assert client.read(path) == file.data, f"{path} was sent again and has other bytes"
            self.told.acknowledged[path] = self.told.open.pop(path)
        client.close()

    def settle(self) -> dict[str, int]:
        """Collect until nothing waits; all that was ever acknowledged is there. Returns the orphans that are left."""
        client = Client(self.server)
        for grace in (0, 0):
            time.sleep(float(SETTINGS["ECOTONE_COLLECT_DELAY"]) + 0.1)
            job = client.ask("POST", "/api/ecotone/v1/store/collect", json={"grace": grace}).json()["id"]
            while (state := client.ask("GET", f"/api/ecotone/v1/jobs/{job}").json()["state"]) in ("queued", "running"):
                time.sleep(0.1)
            assert state == "done", client.ask("GET", f"/api/ecotone/v1/jobs/{job}").json()
        for path, file in self.told.acknowledged.items():
            assert client.read(path) == file.data, path
        client.close()
        self.server.stop()
        return self.check_store()

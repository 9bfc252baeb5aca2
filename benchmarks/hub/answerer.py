"""The reference of `make bench-hub`: answers the same clients as cheaply as can be, keeps nothing and checks nothing.

Uploads are counted and dropped. Downloads come by sendfile from the plain file or from xorbs as a hub stored them, by
reconstructions made beforehand. No accounts, no database, no history.

    python benchmarks/hub/answerer.py PORT [STATE.json]

STATE.json, written by the benchmark: {"file", "sha256", "size", "xet": file hash, "reconstructions": {range: answer},
"xorbs": {hash: path}, "put": address that LFS files are put at, else they are counted and dropped}.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools

COMMIT = "a" * 40
OK = b"HTTP/1.1 200 OK\r\n"


class Answerer(asyncio.Protocol):
    def __init__(self, base: str, state: dict[str, Any]) -> None:
        self.base = base
        self.state = state
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.fields, self.body, self.kept = b"", {}, bytearray(), True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self.fields.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.kept = not any(word in self.url for word in (b"/xorbs/", b"/lfs-data", b"/shards"))

    def on_body(self, body: bytes) -> None:
        if self.kept:
            self.body += body

    def on_message_complete(self) -> None:
        path, _, _query = self.url.decode().partition("?")
        self.answer(self.parser.get_method().decode(), path)

    def answer(self, method: str, path: str) -> None:
        if "/resolve/" in path:
            self.resolve(method)
        elif "/reconstructions/" in path:
            wanted = self.fields.get(b"range", b"").decode()
            self.json(self.state["reconstructions"].get(wanted) or self.planned(wanted))
        elif path.startswith("/data/"):
            self.file(self.state["xorbs"][path.removeprefix("/data/")], "206 Partial Content", "")
        elif path == "/lfs-data":
            self.reply(OK + b'etag: "x"\r\ncontent-length: 0\r\n\r\n')
        else:
            self.json(self.told(path))

    def told(self, path: str) -> Any:
        """What the small calls of an upload or download are answered."""
        if path == "/api/repos/create":
            return {"url": f"{self.base}/bench/model", "name": "bench/model", "id": "1"}
        if "/preupload/" in path:
            files = json.loads(self.body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False} for f in files]}
        if "/xet-" in path:
            return {"casUrl": self.base, "accessToken": "x", "exp": 4102444800}
        if "/xorbs/" in path:
            return {"was_inserted": True}
        if "/shards" in path:
            return {"type": "result", "result": 1}
        if path.endswith("/objects/batch"):
            rows = [
                {
                    **o,
                    "authenticated": True,
                    "actions": {"upload": {"href": self.state.get("put", f"{self.base}/lfs-data")}},
                }
                for o in json.loads(self.body)["objects"]
            ]
            return {"transfer": "basic", "objects": rows, "hash_algo": "sha256"}
        if "/commit/" in path:
            return {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.base}/bench/model/commit/{COMMIT}"}
        if "/api/models/" in path:
            return {"id": "bench/model", "sha": COMMIT, "siblings": []}
        return None

    def planned(self, wanted: str) -> Any:
        return self.state["plan"](wanted)

    def json(self, value: Any) -> None:
        if value is None:
            self.reply(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nx-error-code: EntryNotFound\r\n\r\n{}")
            return
        body = json.dumps(value).encode()
        tokens = b""
        if isinstance(value, dict) and "casUrl" in value:
            tokens = (
                f"X-Xet-Cas-Url: {self.base}\r\nX-Xet-Access-Token: x\r\nX-Xet-Token-Expiration: 4102444800\r\n"
            ).encode()
        self.reply(OK + tokens + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    def resolve(self, method: str) -> None:
        fields = f'X-Repo-Commit: {COMMIT}\r\nETag: "{self.state["sha256"]}"\r\nAccept-Ranges: bytes\r\n'
        if self.state.get("xet_on"):
            route = f"{self.base}/api/models/bench/model/xet-read-token/{COMMIT}"
            fields += f"X-Xet-Hash: {self.state['xet']}\r\nX-Xet-Refresh-Route: {route}\r\n"
            fields += f"X-Linked-Size: {self.state['size']}\r\n"
        if method == "HEAD":
            self.reply(OK + f"{fields}content-length: {self.state['size']}\r\n\r\n".encode())
        else:
            self.file(self.state["file"], "200 OK", fields)

    def file(self, path: str, status: str, fields: str) -> None:
        size = Path(path).stat().st_size
        start, end = 0, size
        wanted = self.fields.get(b"range", b"").decode().removeprefix("bytes=")
        if wanted:
            first, _, last = wanted.partition("-")
            start, end, status = int(first), int(last) + 1 if last else size, "206 Partial Content"
            fields += f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
        head = f"HTTP/1.1 {status}\r\n{fields}content-length: {end - start}\r\n\r\n".encode()
        asyncio.get_running_loop().create_task(self.send(head, path, start, end - start))

    async def send(self, head: bytes, path: str, start: int, size: int) -> None:
        self.transport.write(head)
        with open(path, "rb") as file:
            try:
                await asyncio.get_running_loop().sendfile(self.transport, file, start, size)
            except ConnectionError:
                return

    def reply(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(port: int, state: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    made: Callable[[], Answerer] = lambda: Answerer(f"http://127.0.0.1:{port}", state)  # noqa: E731
    server = await loop.create_server(made, "127.0.0.1", port)
    await server.serve_forever()


def planner(base: str, state: dict[str, Any]) -> Callable[[str], Any]:
    """Answers to reconstructions that no one asked before, from the terms alone."""
    from ecotone.storage.objects import LocalFile
    from ecotone.storage.reconstruction import StoredTerm, file_of, plan
    from ecotone.storage.xorbs import ChunkIndex

    indexes = {name: ChunkIndex.of_stored(LocalFile(open_readonly(path))) for name, path in state["xorbs"].items()}
    terms = tuple(StoredTerm(t["hash"], t["range"]["start"], t["range"]["end"], t["length"]) for t in state["terms"])
    file = file_of("bench", state["xet"], state["sha256"], terms)
    kept: dict[str, Any] = {}

    def answer(wanted: str) -> Any:
        if wanted not in kept:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first or 0)
            if start >= file.size:
                return None
            found = plan(file, start, int(last) + 1 if last else None, indexes.__getitem__)
            kept[wanted] = {
                "offset_into_first_range": found.offset,
                "terms": [
                    {"hash": t.xorb, "unpacked_length": t.length, "range": {"start": t.start, "end": t.end}}
                    for t in found.terms
                ],
                "xorbs": {
                    xorb: [
                        {
                            "url": f"{base}/data/{xorb}",
                            "ranges": [{"chunks": {"start": a, "end": b}, "bytes": {"start": c, "end": d}}],
                        }
                        for a, b, c, d in ranges
                    ]
                    for xorb, ranges in found.fetch.items()
                },
            }
        return kept[wanted]

    return answer


def open_readonly(path: str) -> int:
    import os

    return os.open(path, os.O_RDONLY)


if __name__ == "__main__":
    at = int(sys.argv[1])
    known: dict[str, Any] = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else {}
    known.setdefault("reconstructions", {})
    if known.get("terms"):
        known["plan"] = planner(f"http://127.0.0.1:{at}", known)
    asyncio.run(serve(at, known))

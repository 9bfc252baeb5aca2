"""Requests per second and added latency of the gateway against the same fake upstream called directly.

    make bench-gateway

Starts `ecotone up` in a temporary folder, a raw asyncio upstream with a fixed answer, and raw asyncio clients; rounds
are interleaved (direct, gateway, direct, ...) and the medians are compared. Everything shares the machine's cores.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import uvloop

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 200}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
).encode()
RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + str(len(ANSWER)).encode() + b"\r\n\r\n"
) + ANSWER


class Upstream(asyncio.Protocol):
    """Answers each request whose body is complete with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + size:
                return
            self.buffer = self.buffer[end + 4 + size :]
            self.transport.write(RESPONSE)  # type: ignore[attr-defined]


def request(port: int, key: str, model: str) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "word " * 100}]}).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def load(port: int, message: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """Requests per second and median latency in microseconds."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < end:
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"unexpected answer: {head[:200]!r} {await reader.read(500)!r}")
            low = head.lower()
            if b"transfer-encoding: chunked" in low:
                while size := int((await reader.readline()).strip(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            else:
                await reader.readexactly(int(low.split(b"content-length:")[1].split(b"\r\n")[0]))
            latencies.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return len(latencies) / (time.perf_counter() - began), statistics.median(latencies) * 1e6


def cli(env: dict[str, str], *argv: str) -> str:
    done = subprocess.run([Path(sys.executable).parent / "ecotone", *argv], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


async def measure(rounds: int, seconds: float) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(Upstream, "127.0.0.1", 0)
    direct = upstream.sockets[0].getsockname()[1]
    probe = await loop.create_server(Upstream, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            "ECOTONE_DATA": folder,
            "ECOTONE_PORT": str(port),
            "ECOTONE_URL": f"http://127.0.0.1:{port}",
        }
        env |= {
            "ECOTONE_ADMIN_TOKEN": "benchmark-admin-token",
            "ECOTONE_TOKEN": "benchmark-admin-token",
            "B_API_KEY": "k",
        }
        server = subprocess.Popen([Path(sys.executable).parent / "ecotone", "up"], env=env, stderr=subprocess.DEVNULL)
        try:
            await asyncio.to_thread(wait, port)
            await asyncio.to_thread(
                cli, env, "backend", "add", "b", "--url", f"http://127.0.0.1:{direct}/v1", "--key-env", "B_API_KEY"
            )
            await asyncio.to_thread(
                cli, env, "project", "create", "p", "--mode", "serve_api", "--purpose", "commercial"
            )
            key = await asyncio.to_thread(cli, env, "key", "create", "--project", "p")
            await asyncio.sleep(2.5)
            ports = {"direct": (direct, request(direct, key, "b/m")), "gateway": (port, request(port, key, "b/m"))}
            rates: dict[str, list[float]] = {name: [] for name in ports}
            delays: dict[str, list[float]] = {name: [] for name in ports}
            for _ in range(rounds):
                for name, (at, message) in ports.items():
                    rates[name].append((await load(at, message, 32, seconds))[0])
                    delays[name].append((await load(at, message, 1, seconds / 2))[1])
        finally:
            server.terminate()
            await asyncio.to_thread(server.wait)
    rate = {name: statistics.median(values) for name, values in rates.items()}
    delay = {name: statistics.median(values) for name, values in delays.items()}
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "requests_per_second": {k: round(v) for k, v in rate.items()},
        "p50_us_one_connection": {k: round(v) for k, v in delay.items()},
        "added_p50_us": round(delay["gateway"] - delay["direct"]),
        "ratio_to_direct": round(rate["gateway"] / rate["direct"], 4),
    }


def wait(port: int) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    print(json.dumps(uvloop.run(measure(args.rounds, args.seconds))))

"""vLLM as what stands behind: `vllm serve` started and watched here, or a server elsewhere.

Facts of its command line, routes and metrics: vLLM's sources and documentation, 0.32. A server that hangs can go on
saying that it is healthy (vLLM #39863), so the flow of tokens is watched too.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ecotone.engines.kinds.relay.attached import Attached
from ecotone.engines.kinds.relay.far import Ended, Far, Fault
from ecotone.engines.kinds.relay.tasks import FEATURES, GENERATION, SIMILARITY
from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import plan
from ecotone.jobs import Child

log = logging.getLogger("ecotone.engines.relay")

PROCESS = "ecotone.engines.kinds.relay.process"
_FIRST_LOOK = 0.2
_LOAD_SECONDS = 60.0
_FLOWING = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")
_GAUGES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache",
}


class Started(Far):
    """`vllm serve` in a process of its own, on a Unix socket in a private folder, with a key made at this start.

    Spec: `command` (how vLLM is called), `folder`, `environment` (variables beside the scrubbed ones), `options`;
    `probe_every`, `stall` and `probe_within` are seconds between looks, without a token before a probe, and that
    a probe may take.
    """

    kind = "vllm"
    dialect = "vllm"

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self._spec = spec
        self._key = secrets.token_hex(24)
        self._socket = f"{spec['socket'].removesuffix('.sock')}-v.sock"
        self.headers = {"authorization": f"Bearer {self._key}"}
        self._flow = Flow()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._child: Child | None = None
        self._pid = 0

    async def start(self) -> dict[str, Any]:
        command = arguments(self._spec, self._socket)
        self.progress("starting vLLM")
        self._child = child = Child(
            PROCESS,
            {"command": command, "environment": environment(self._spec, self._key)},
            log=Path(self._spec.get("log") or "log").absolute(),
            on_message=self._hear,
        )
        self.open(unix=self._socket)
        self._tasks.append(asyncio.create_task(self._await_end(child)))
        while not self._pid or not Path(self._socket).exists() or not await self._healthy():
            if self._over.done():
                raise Ended(self._over.result())
            await asyncio.sleep(_FIRST_LOOK)
        told = await told_of(self, self.model)
        self._tasks.append(asyncio.create_task(self._watch()))
        return {**told, **self._files_tell(), "engine_pid": self._pid}

    async def well(self) -> bool:
        return not self._over.done() and await self._healthy()

    async def ended(self) -> str:
        return await self._over

    async def stop(self, seconds: float) -> None:
        for task in self._tasks:
            task.cancel()
        if self._child is not None:
            await asyncio.to_thread(self._child.stop, seconds)
        with contextlib.suppress(OSError):
            Path(self._socket).unlink()
        await super().stop(seconds)

    async def load_adapter(self, name: str, folder: str) -> None:
        if "max-loras" not in self.arguments:
            return await super().load_adapter(name, folder)
        if not (Path(folder) / "adapter_config.json").is_file():
            raise Fault(f"{name} has no adapter_config.json.", status=400, code="not_an_adapter")
        await load(self, name, folder)
        return None

    async def drop_adapter(self, name: str) -> None:
        if name not in self.adapters:
            return await super().drop_adapter(name)
        await drop(self, name)
        return None

    async def figures(self) -> dict[str, Any]:
        found = self._flow.told(await metrics(self))
        return {**found, "memory": await asyncio.to_thread(memory, self._child.pid) if self._child else None}

    def _files_tell(self) -> dict[str, Any]:
        base = self._spec.get("base")
        task = str(plan(Path(self._spec["folder"]), Path(base) if base else None).task)
        writes = task == GENERATION
        return {"task": task, "tasks": (GENERATION,) if writes else (FEATURES, SIMILARITY), "chat": writes}

    # -- watching ----------------------------------------------------------------------------------------------------
    def _hear(self, message: dict[str, Any]) -> None:
        self._pid = int(message.get("pid") or self._pid)

    async def _await_end(self, child: Child) -> None:
        await asyncio.to_thread(child.wait)
        self._finish(child.failure("vLLM ended").message)

    def _finish(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    async def _healthy(self) -> bool:
        try:
            return (await self.ask("/health"))[0] == 200
        except Fault:
            return False

    async def _watch(self) -> None:
        """Ends the engine's life when it says that it is unwell, or when calls run and no token flows."""
        every = float(self._spec["probe_every"])
        stall = float(self._spec["stall"])
        within = float(self._spec["probe_within"])
        misses = 0
        while not self._over.done():
            await asyncio.sleep(every)
            misses = 0 if await self._healthy() else misses + 1
            if misses >= 3:
                return self._finish("vLLM hangs: three health checks in a row failed.")
            try:
                self._flow.told(await metrics(self))
            except Fault:
                pass
            except Exception:  # a page that cannot be read must not end the watch
                log.exception("the figures of vLLM cannot be read")
            if self._flow.stalled(stall) and not await writes_a_token(self, within):
                return self._finish(
                    f"vLLM hangs: calls run, no token has come for {stall:g} s, and a call for a single one was not "
                    f"answered within {within:g} s."
                )
        return None


class AtUrl(Attached):
    """A vLLM that somebody else runs: watched and asked, never started or ended. Adapters are loaded when its
    operator allows it and it sees the hub's folders."""

    kind = "vllm"
    dialect = "vllm"

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self._flow = Flow()
        self._stall, self._within = float(spec["stall"]), float(spec["probe_within"])

    async def well(self) -> bool:
        if not await super().well():
            return False
        return not self._flow.stalled(self._stall) or await writes_a_token(self, self._within)

    async def start(self) -> dict[str, Any]:
        return {**await super().start(), **await told_of(self, self.name)}

    async def load_adapter(self, name: str, folder: str) -> None:
        await load(self, name, folder)

    async def drop_adapter(self, name: str) -> None:
        await drop(self, name)

    async def figures(self) -> dict[str, Any]:
        return self._flow.told(await metrics(self))


class Flow:
    """Whether tokens flow, from one look at the metrics to the next."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None
        self._moved = time.monotonic()
        self._rate = 0.0
        self._written = 0.0
        self._running = 0.0

    def told(self, found: Mapping[str, float]) -> dict[str, Any]:
        """Figures in the words of `/health`; `tokens_per_second` is since the look before."""
        now, made = time.monotonic(), sum(found.get(name, 0.0) for name in _FLOWING)
        written = found.get(_FLOWING[0], 0.0)
        self._running = found.get("vllm:num_requests_running", 0.0)
        if self._seen is None or made != self._seen[0] or not self._running:
            self._moved = now
        if self._seen is not None and now > self._seen[1]:
            self._rate = max(0.0, written - self._written) / (now - self._seen[1])
        self._seen, self._written = (made, now), written
        told: dict[str, Any] = {word: found[name] for name, word in _GAUGES.items() if name in found}
        return told | {"tokens": int(written), "tokens_per_second": round(self._rate, 2)}

    def stalled(self, seconds: float) -> bool:
        return self._running > 0 and time.monotonic() - self._moved > seconds


def arguments(spec: Mapping[str, Any], socket: str) -> list[str]:
    """The command line of `vllm serve`; no key is on it, as anybody on the machine can read it.

    An adapter that is a deployment of its own runs over its base, which has no name there that a call could use.
    """
    options, info = spec.get("options") or {}, spec["info"]
    more: dict[str, str] = dict(options.get("arguments") or {})
    names = [info["model"], f"{info['model']}@{info['revision']}"]
    folder, base = spec["folder"], spec.get("base")
    if options.get("slots"):
        more["max-num-seqs"] = str(options["slots"])
    if base:
        more = {"enable-lora": "", "max-lora-rank": str(lora_rank(Path(folder))), **more}
    elif "max-loras" in more:
        more["enable-lora"] = ""
    found = [*spec["command"], "serve", base or folder, "--uds", socket, "--load-format", "safetensors"]
    found += ["--disable-uvicorn-access-log", "--served-model-name", *(["base-of-the-adapter"] if base else names)]
    for name, value in more.items():
        found += [f"--{name}", value] if value else [f"--{name}"]
    return [*found, "--lora-modules", *(f"{name}={folder}" for name in names)] if base else found


def lora_rank(folder: Path) -> int:
    """The smallest of vLLM's ranks that an adapter fits in."""
    rank = int(json.loads((folder / "adapter_config.json").read_bytes()).get("r") or 8)
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)


def environment(spec: Mapping[str, Any], key: str) -> dict[str, str]:
    """The variables of vLLM's process: this process's own, which are scrubbed, without what leads its interpreter to
    our libraries."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found |= spec.get("environment") or {}
    found |= {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if "max-loras" in ((spec.get("options") or {}).get("arguments") or {}):
        found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return found


async def writes_a_token(far: Far, seconds: float) -> bool:
    """Whether a completion of one token is answered in time: what a server that hangs cannot feign."""
    body = {"model": far.name, "prompt": "a", "max_tokens": 1}
    try:
        return (await far.ask("/v1/completions", body, seconds))[0] == 200
    except Fault:
        return False


async def told_of(far: Far, name: str) -> dict[str, Any]:
    """What vLLM says of its model. Raises Unloadable when it serves another."""
    status, raw = await far.ask("/v1/models")
    if status in (401, 403):
        raise Unloadable("it refuses the key; set the variable that holds the right one.")
    listed = {str(m.get("id")): m for m in json.loads(raw).get("data", ())} if status == 200 else {}
    if name not in listed:
        raise Unloadable(f"it serves {', '.join(sorted(listed)) or 'nothing'} and no {name!r}.")
    version = json.loads((await far.ask("/version"))[1] or b"{}").get("version", "")
    return {"context_length": listed[name].get("max_model_len"), "engine": f"vLLM {version}".strip()}


async def load(far: Far, name: str, folder: str) -> None:
    """POST /v1/load_lora_adapter; the name is the adapter's model and revision, so one name is always one adapter."""
    if name in far.adapters:
        return
    status, raw = await far.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder}, _LOAD_SECONDS)
    if status == 404:
        text = "vLLM was started without VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora, so it loads no adapters."
        raise Fault(text, status=400, code="adapters_unsupported")
    if status != 200:
        told = raw[:600].decode("utf-8", "replace")
        raise Fault(f"vLLM does not load {name}: {told}", status=400, code="adapter_refused")
    far.adapters[name] = {}


async def drop(far: Far, name: str) -> None:
    far.adapters.pop(name, None)  # no call takes it any more, whatever vLLM answers
    status, raw = await far.ask("/v1/unload_lora_adapter", {"lora_name": name}, _LOAD_SECONDS)
    if status not in (200, 404):
        raise Fault(f"vLLM does not unload {name}: {raw[:300].decode('utf-8', 'replace')}")


async def metrics(far: Far) -> dict[str, float]:
    """Sums over labels, by the metric's name. Raises Fault."""
    status, raw = await far.ask("/metrics")
    found: dict[str, float] = {}
    if status == 200:
        for family in text_string_to_metric_families(raw.decode("utf-8", "replace")):
            for sample in family.samples:
                if (sample.name in _GAUGES or sample.name in _FLOWING) and math.isfinite(sample.value):
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def memory(group: int) -> int:
    """Bytes of main memory of a process group (proportional where the kernel tells, Linux alone)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[2]) == group:
                rollup = (stat.parent / "smaps_rollup").read_text()
                total += 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, ValueError, StopIteration):
            continue
    return total

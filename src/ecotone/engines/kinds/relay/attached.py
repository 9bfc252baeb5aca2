"""Engines that somebody else runs: any server of OpenAI's dialect, and text-embeddings-inference (TEI)."""

import json
from collections.abc import Mapping
from typing import Any

from ecotone.engines.kinds.relay.far import Far, first_answer
from ecotone.engines.kinds.relay.tasks import CLASSIFICATION, FEATURES, GENERATION, SIMILARITY
from ecotone.engines.server.errors import Unloadable

_PATIENCE = 10.0
_TASKS = {GENERATION: (GENERATION,), FEATURES: (FEATURES, SIMILARITY)}


class _AtAddress(Far):
    """A server at `options.url`, which calls the model `options.served_as`; `key` is its key."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self.base = str(self.options["url"]).rstrip("/").removesuffix("/v1")
        if spec.get("key"):
            self.headers = {"authorization": f"Bearer {spec['key']}"}
        self.name = str(self.options.get("served_as") or self.model)


class Attached(_AtAddress):
    """A server of OpenAI's dialect."""

    kind = "openai"

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self._task = str(self.arguments.get("task") or spec["info"].get("task") or GENERATION)
        self._health = "/health"

    async def start(self) -> dict[str, Any]:
        self.open()
        status, raw = await first_answer(self, "/v1/models", _PATIENCE)
        if status in (401, 403):
            raise Unloadable(f"{self.base} refuses the key; set the variable that --key-env names to the right one.")
        known = _ids(raw) if status == 200 else []
        if known and self.name not in known:
            raise Unloadable(
                f"{self.base} serves {', '.join(known[:10])} and no {self.name!r}; say with --served-as what it calls "
                "this model."
            )
        if (await self.ask(self._health))[0] == 404:
            self._health = "/v1/models"
        return {"task": self._task, "tasks": _TASKS.get(self._task, ()), "chat": self._task == GENERATION}

    async def well(self) -> bool:
        return (await self.ask(self._health))[0] == 200


class Tei(_AtAddress):
    """text-embeddings-inference; its routes and `/info` as in its OpenAPI document."""

    kind = "tei"
    dialect = "tei"

    async def start(self) -> dict[str, Any]:
        self.open()
        status, raw = await first_answer(self, "/info", _PATIENCE)
        if status in (401, 403):
            raise Unloadable(f"{self.base} refuses the key; set the variable that --key-env names to the right one.")
        info = json.loads(raw) if status == 200 else {}
        if not isinstance(info.get("model_type"), dict):
            raise Unloadable(f"{self.base}/info is not text-embeddings-inference's; its answer has no model_type.")
        kind = next(iter(info["model_type"]), "")
        if kind not in ("embedding", "classifier"):
            raise Unloadable(f"{self.base} serves a model of type {kind!r}; embedding or classifier is expected.")
        tasks = (FEATURES, SIMILARITY) if kind == "embedding" else (CLASSIFICATION,)
        return {
            "task": tasks[0],
            "tasks": tasks,
            "context_length": info.get("max_input_length"),
            "dtype": info.get("model_dtype"),
            "engine": f"text-embeddings-inference {info.get('version', '')}".strip(),
            "engine_model": info.get("model_id"),
            "truncates": bool(info.get("auto_truncate")),
        }

    async def well(self) -> bool:
        return (await self.ask("/health"))[0] == 200


def _ids(raw: bytes) -> list[str]:
    try:
        return [str(model["id"]) for model in json.loads(raw)["data"]]
    except (ValueError, KeyError, TypeError):
        return []

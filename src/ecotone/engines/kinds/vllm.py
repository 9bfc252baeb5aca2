"""vLLM: `vllm serve` started here on a machine with a GPU, or attached at an address. It lives in an environment of its
own, as it fixes the versions of torch and transformers; so its command is called and nothing of it is imported."""

import os
import shutil
from typing import Any, Final

from ecotone.engines.errors import EngineFailed
from ecotone.engines.kinds.kind import Hear, Options, Running, Spec
from ecotone.engines.kinds.relayed import Relayed, check_arguments, check_url, key_of, refuse
from ecotone.settings import Settings

ARGUMENTS: Final = frozenset(
    {
        *("max-model-len", "dtype", "quantization", "kv-cache-dtype", "block-size", "seed", "generation-config"),
        *("gpu-memory-utilization", "cpu-offload-gb", "swap-space", "tensor-parallel-size", "pipeline-parallel-size"),
        *("max-num-batched-tokens", "enable-prefix-caching", "no-enable-prefix-caching", "enable-chunked-prefill"),
        *("enforce-eager", "safetensors-load-strategy", "runner", "convert", "attention-backend"),
        *("max-loras", "max-lora-rank", "max-cpu-loras"),
        *("enable-auto-tool-choice", "tool-call-parser", "reasoning-parser"),
    }
)
"""What may be said to `vllm serve`: nothing that runs foreign code, opens a port or loads from elsewhere."""
WATCH: Final = {"probe_every": 5.0, "stall": 30.0, "probe_within": 30.0}
"""Seconds between two looks, without a token before a call for a single one is sent, and that this may take."""
_ATTACHED = frozenset({"task", "max-loras"})
_NOT_PASSED = ("VLLM_API_KEY", "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_PLUGINS")


class Vllm:
    takes_files = True
    spreads = False
    libraries: tuple[str, ...] = ()
    extra = ""

    def check(self, options: Options) -> None:
        refuse(options, "quantise", "threads", "device", kind="vllm")
        if options.url:
            check_url(options)
            refuse(options, "slots", "replicas", "most_replicas", kind="vllm with an address")
            check_arguments(options, _ATTACHED, "vllm with an address")
        else:
            refuse(options, "key_env", "served_as", kind="vllm")
            check_arguments(options, ARGUMENTS, "vllm")

    def start(self, spec: Spec, hear: Hear) -> Running:
        if spec.options.url:
            return Relayed("vllm", spec, hear, more={"key": key_of(spec.options), **WATCH}, dialect="vllm")
        more: dict[str, Any] = {"command": [command()], "environment": _environment(), **WATCH}
        return Relayed("vllm", spec, hear, more=more, dialect="vllm")


def command() -> str:
    """Where the `vllm` command is.

    Raises:
        EngineFailed: nowhere; with what to run.
    """
    named = Settings.from_environment().vllm
    found = shutil.which(named)
    if found is None:
        raise EngineFailed(
            f"The command {named!r} was not found. vLLM wants an environment of its own, on a machine with a GPU: "
            "python3 -m venv vllm && vllm/bin/pip install vllm, then set ECOTONE_VLLM to the path of vllm/bin/vllm. Or "
            "attach one that runs elsewhere by its address (--url)."
        )
    return found


def _environment() -> dict[str, str]:
    """vLLM's own settings of the server's environment."""
    return {n: v for n, v in os.environ.items() if n.startswith("VLLM_") and n not in _NOT_PASSED}


KIND = Vllm()

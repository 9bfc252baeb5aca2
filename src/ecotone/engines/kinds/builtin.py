"""The built-in engine as a child process on a Unix socket: started from a spec, heard over its pipe."""

import json
import os
import re
import signal
from typing import Any

from ecotone.engines.errors import NotServable
from ecotone.engines.kinds.kind import Hear, Options, Spec
from ecotone.engines.kinds.process import Process
from ecotone.engines.kinds.relayed import check_arguments
from ecotone.engines.memory import SHARE, of_machine
from ecotone.settings import Settings

MODULE = "ecotone.engines.server"
_OF_OTHERS = ("url", "key_env", "served_as", "location")
_MOST_SLOTS, _MOST_THREADS = 1024, 1024
_ARGUMENTS = {
    "truncate": ("true or false", re.compile("true|false")),
    "batch_tokens": ("a number of tokens", re.compile("[1-9][0-9]{0,6}")),
    "dtype": ("float32 or bfloat16", re.compile("float32|bfloat16")),
}
_NO_ADAPTERS = (400, 404, 405, 501)


class Builtin:
    """Our own engine: torch and transformers in a process of its own."""

    takes_files = True
    spreads = False
    libraries = ("torch", "transformers", "safetensors")
    extra = "engine"

    def check(self, options: Options) -> None:
        for name in _OF_OTHERS:
            if getattr(options, name) is not None:
                raise NotServable(f"The built-in engine has no {name}; leave it out, or name another kind.")
        check_arguments(options, frozenset(_ARGUMENTS), "builtin")
        for name, value in options.arguments.items():
            expected, form = _ARGUMENTS[name]
            if not form.fullmatch(value):
                raise NotServable(f"The argument {name} is {value[:40]!r}; {expected} is expected.")
        if options.quantise not in (None, "int8"):
            raise NotServable(f"quantise is {str(options.quantise)[:40]!r}; int8 is expected, or nothing.")
        for name, most in (("slots", _MOST_SLOTS), ("threads", _MOST_THREADS)):
            told = getattr(options, name)
            if told is not None and not 1 <= told <= most:
                raise NotServable(f"{name} is {told}; 1 to {most} are expected.")

    def start(self, spec: Spec, hear: Hear) -> "Engine":
        return Engine(spec, hear)


class Engine(Process):
    """One engine of ours that runs."""

    def __init__(self, spec: Spec, hear: Hear) -> None:
        super().__init__(MODULE, spec, hear, {"options": options_told(spec.options)})

    def failure(self, what: str) -> str:
        if self._child.poll() == -signal.SIGKILL and not self._was_stopped:
            what = f"{what} (killed, most likely since the machine had no memory left: {_ADVICE})"
        return super().failure(what)

    def is_unsupported(self, status: int, code: Any) -> bool:
        return status in _NO_ADAPTERS


def options_told(options: Options) -> dict[str, Any]:
    """What the child is told of them; replicas share the machine's cores where nobody says how many each has."""
    found: dict[str, Any] = {
        "quantise": options.quantise,
        "slots": options.slots,
        "device": options.device,
        "memory": Settings.from_environment().engine_memory or int(of_machine() * SHARE),
    }
    found |= {name: json.loads(value) if name != "dtype" else value for name, value in options.arguments.items()}
    threads = options.threads
    if threads is None and options.replicas > 1:
        threads = max(1, _cores() // options.replicas)
    return {name: value for name, value in (found | {"threads": threads}).items() if value is not None}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_ADVICE = (
    "stop other models, serve it with fewer --replicas or, if it writes, --quantise int8, or set ECOTONE_ENGINE_MEMORY "
    "lower"
)
KIND = Builtin()

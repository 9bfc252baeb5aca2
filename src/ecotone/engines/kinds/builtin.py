"""The built-in engine as a child process on a Unix socket: started from a spec, heard over its pipe."""

import contextlib
import http.client
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

from ecotone.engines.errors import EngineFailed, NotServable, NotSupported
from ecotone.engines.kinds.kind import Beat, Event, Hear, Options, Progress, Ready, Refused, Spec, Where
from ecotone.engines.kinds.relayed import check_arguments
from ecotone.engines.memory import SHARE, of_machine
from ecotone.engines.probing import asked, healthy
from ecotone.jobs import Child, Message
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

    def start(self, spec: Spec, hear: Hear) -> "Process":
        return Process(spec, hear)


class Process:
    """One engine of ours that runs."""

    def __init__(self, spec: Spec, hear: Hear) -> None:
        self._hear = hear
        self._socket = spec.sockets.new()
        self._drop = spec.sockets.drop
        told = {
            "folder": str(spec.folder),
            "base": None if spec.base is None else str(spec.base),
            "socket": str(self._socket),
            "options": options_told(spec.options),
            "info": spec.info,
        }
        try:
            self._child = Child(MODULE, told, log=spec.log_file, on_message=self._heard)
        except OSError as error:
            raise EngineFailed(f"No process could be started for {spec.model}: {error.strerror}.") from None

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def wait(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            self._child.wait(seconds)
            return True
        return False

    def failure(self, what: str) -> str:
        if self._child.poll() is None:
            return f"{what}. The end of its log:\n{self._child.tail()}"
        if self._child.poll() == -signal.SIGKILL and not self._child_was_stopped:
            what = f"{what} (killed, most likely since the machine had no memory left: {_ADVICE})"
        return self._child.failure(what).message

    def probe(self, within: float) -> bool:
        return healthy(self._socket, within)

    def load(self, name: str, folder: Path, within: float) -> None:
        body = {"name": name, "folder": str(folder)}
        status, text = self._ask("POST", body, within)
        if status in _NO_ADAPTERS:
            raise NotSupported(f"{name} cannot be added to a running engine: {text}")
        if status != 200:
            raise EngineFailed(f"{name} could not be added to its base's engine: {text}")

    def unload(self, name: str, within: float) -> None:
        status, text = self._ask("DELETE", {"name": name}, within)
        if status not in (200, 404):
            raise EngineFailed(f"{name} could not be removed from its base's engine: {text}")

    def stop(self, grace: float) -> None:
        self._child_was_stopped = True
        self._child.stop(grace)
        self._drop(self._socket)

    _child_was_stopped = False

    def _ask(self, method: str, body: dict[str, Any], within: float) -> tuple[int, str]:
        try:
            status, raw = asked(self._socket, method, "/adapters", body, within)
        except (OSError, http.client.HTTPException) as error:
            raise EngineFailed(f"The engine did not answer: {type(error).__name__}.") from None
        text = raw[:2000].decode("utf-8", "replace")
        with contextlib.suppress(ValueError, TypeError, KeyError):
            text = str(json.loads(raw)["error"]["message"])[:1000]
        return status, text

    def _heard(self, message: Message) -> None:
        event = _event(message, self._socket)
        if event is not None:
            self._hear(event)


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


def _event(message: Message, path: Path) -> Event | None:
    match message:
        case {"ready": dict() as info}:
            return Ready(Where(socket=path), info)
        case {"refused": reason}:
            return Refused(str(reason))
        case {"progress": str() as phase}:
            share = message.get("share")
            return Progress(phase, float(share) if isinstance(share, int | float) else None)
        case {"beat": dict() as beat}:
            known = {name: beat[name] for name in Beat.__dataclass_fields__ if name in beat}
            return Beat(**known)
    return None


_ADVICE = (
    "stop other models, serve it with fewer --replicas or, if it writes, --quantise int8, or set ECOTONE_ENGINE_MEMORY "
    "lower"
)
KIND = Builtin()

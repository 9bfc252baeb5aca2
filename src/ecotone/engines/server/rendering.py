"""Chat templates, rendered by a process of its own within limits of time, memory and length."""

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecotone.engines.server.errors import RequestError

_CHILD = Path(__file__).with_name("rendering_child.py")
LARGEST_TEMPLATE = 256 * 1024
_WALL_SECONDS = 20.0
_MEMORY_BYTES = 768 << 20


class Renderer:
    """Renders one template. Thread-safe; the process is started when it is first needed, and again when it was lost.

    Args:
        template: Jinja's source.
        specials: names of special tokens and how they are written.
        most_letters: characters that a text may have.
        cpu_seconds: computing time for one text.
    """

    def __init__(
        self, template: str, specials: Mapping[str, str], most_letters: int, *, cpu_seconds: float = 2.0
    ) -> None:
        self._cpu_seconds = cpu_seconds
        self._spec: dict[str, Any] = {
            "template": template,
            "specials": dict(specials),
            "most_letters": most_letters,
            "cpu_seconds": cpu_seconds,
            "memory_bytes": _MEMORY_BYTES,
        }
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text for these variables.

        Raises:
            RequestError: the template refuses them, or does not keep to its limits.
        """
        if len(self._spec["template"]) > LARGEST_TEMPLATE:
            raise _refused(f"it has more than {LARGEST_TEMPLATE} characters")
        line = json.dumps(dict(variables)).encode() + b"\n"
        with self._lock:
            answer = self._ask(line)
        if "text" not in answer:
            raise _refused(str(answer["error"]))
        return str(answer["text"])

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._drop()

    def _ask(self, line: bytes) -> dict[str, Any]:
        child = self._child
        if child is None or child.poll() is not None:
            self._drop()
            child = self._child = self._start()
        try:
            assert child.stdin is not None
            child.stdin.write(line)
            child.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(child))
        except (OSError, ValueError, TimeoutError):
            return {"error": self._lost(child)}
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(self._spec).encode() + b"\n")
        return child

    def _line(self, child: subprocess.Popen[bytes]) -> bytes:
        assert child.stdout is not None
        end = time.monotonic() + _WALL_SECONDS
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                piece = child.stdout.read1(1 << 20)  # type: ignore[attr-defined]
                if not piece:
                    raise OSError("the process ended")
                found += piece
        return found

    def _lost(self, child: subprocess.Popen[bytes]) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
        late = child.returncode in (None, -signal.SIGPROF)
        self._drop()
        return f"it takes longer than {self._cpu_seconds:g} s" if late else "it ended the process that renders it"

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()


def _refused(why: str) -> RequestError:
    return RequestError(
        f"The model's chat template refuses these messages: {why}", code="chat_template", param="messages"
    )

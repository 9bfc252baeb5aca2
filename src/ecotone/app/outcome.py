"""How the last restart went, in a file of the data folder, for whoever asked for it."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

NAME = "restart.json"


class Outcome:
    """Written by the supervisor: `number` counts its restarts, `state` is begun, done or failed, with a sentence."""

    def __init__(self, data: Path) -> None:
        self._file = data / NAME
        self._number = last(data).get("number", 0)

    def begin(self) -> None:
        self._number += 1
        self._write("begun", "the new server is being started")

    def done(self, text: str) -> None:
        self._write("done", text)

    def failed(self, why: str) -> None:
        self._write("failed", f"the restart failed: {why}")

    def _write(self, state: str, text: str) -> None:
        print(f"ecotone: {text}", file=sys.stderr, flush=True)
        draft = self._file.with_name(f".{NAME}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"number": self._number, "state": state, "text": text, "at": time.time()}, file)
            draft.replace(self._file)
        except OSError as error:  # a full disk: what counts was said on stderr
            print(f"ecotone: {self._file} cannot be written: {error.strerror}", file=sys.stderr, flush=True)


def last(data: Path) -> dict[str, Any]:
    """What is known of the last restart; empty when there was none."""
    try:
        found = json.loads((data / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("number"), int) else {}

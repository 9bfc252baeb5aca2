"""OpenAI's own client in a process of its own: one call a line in, what its user would see of it a line out.

python sdk.py            each line: {"id", "url", "key", "face", "body"}; lines out carry the id of their call

Calls run beside each other, as those of a user's threads would.
"""

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

clients: dict[tuple[str, str], Any] = {}
"""One for each address and key, as its user would have."""
making = threading.Lock()


def call(asked: dict[str, Any]) -> dict[str, Any]:
    """What a user of the client gets: texts, finish reasons, usage, and the error that was raised."""
    import openai  # type: ignore[import-not-found]  # of the client's environment

    told: dict[str, Any] = {"text": "", "finish": [], "usage": None, "error": None, "arguments": "", "pieces": []}
    place = asked["url"], asked["key"]
    with making:
        if place not in clients:
            clients[place] = openai.OpenAI(base_url=asked["url"], api_key=asked["key"], max_retries=0, timeout=100)
        client = clients[place].with_options(max_retries=asked["retries"])
    body = asked["body"]
    try:
        if asked["face"] == "embeddings":
            made = client.embeddings.create(**body)
            told["usage"] = made.usage.model_dump()
            told["text"] = str(len(made.data))
            return told
        face = client.chat.completions if asked["face"] == "chat" else client.completions
        made = face.create(**body)
        for chunk in made if body.get("stream") else [made]:
            if chunk.usage is not None:
                told["usage"] = chunk.usage.model_dump()
            for choice in chunk.choices:
                if choice.finish_reason:
                    told["finish"].append(choice.finish_reason)
                if asked["face"] != "chat":
                    told["text"] += choice.text or ""
                    continue
                part = choice.delta if body.get("stream") else choice.message
                told["text"] += part.content or ""
                for tool in part.tool_calls or ():
                    told["arguments"] += tool.function.arguments or ""
                    told["pieces"].append(tool.model_dump())
    except openai.APIStatusError as error:
        told["error"] = type(error).__name__
        told["status"], told["code"], told["message"] = error.status_code, error.code, error.message
        told["retry_after"] = error.response.headers.get("retry-after")
    except openai.APIError as error:
        told["error"], told["message"] = type(error).__name__, error.message
        told["code"] = error.code
    except Exception as error:  # whatever else its user would see
        told["error"] = type(error).__name__
        told["message"] = str(error)
    return told


class Sdk:
    """The other end of that process. May be called from several threads."""

    def __init__(self, process: "subprocess.Popen[str]", *, patience: float = 120) -> None:
        self._process = process
        self._patience = patience
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        threading.Thread(target=self._hand_out, daemon=True).start()

    def _hand_out(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer.pop("id"), None)
            if waiting is not None:
                waiting.put(answer)

    def call(
        self, url: str, face: str = "chat", key: str = "eck_shop", retries: int = 0, **body: Any
    ) -> dict[str, Any]:
        if face == "chat":
            body.setdefault("messages", [{"role": "user", "content": "Hello"}])
        elif face == "completions":
            body.setdefault("prompt", "Hello")
        else:
            body.setdefault("input", "Hello")
            body.setdefault("encoding_format", "float")
        assert self._process.stdin is not None
        number = next(self._ids)
        answer = self._waiting[number] = queue.SimpleQueue()
        with self._lock:
            asked = {"id": number, "url": f"{url}/v1", "key": key, "face": face, "body": body, "retries": retries}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        try:
            return answer.get(timeout=self._patience)
        except queue.Empty:
            self._waiting.pop(number, None)
            state = self._process.poll()
            raise AssertionError(f"no answer of the client in {self._patience} s; its exit status: {state}") from None


@contextmanager
def running() -> Iterator[Sdk]:
    from tests.clients.environments import environment

    with subprocess.Popen(
        [environment("openai") / "python", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"NO_PROXY": "*", "PATH": os.environ.get("PATH", "")},
    ) as process:
        yield Sdk(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def answer_lines() -> None:
    """A thread for each line of stdin."""
    writing = threading.Lock()

    def answer(asked: dict[str, Any]) -> None:
        line = json.dumps({"id": asked["id"], **call(asked)})
        with writing:
            print(line, flush=True)

    for line in sys.stdin:
        threading.Thread(target=answer, args=[json.loads(line)], daemon=True).start()


if __name__ == "__main__":
    answer_lines()

"""OpenAI's own client in a process of its own: one call a line in, what its user would see of it a line out.

python sdk.py            each line: {"url", "key", "face", "body"}
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

clients: dict[tuple[str, str], Any] = {}
"""One for each address and key, as its user would have."""


def call(asked: dict[str, Any]) -> dict[str, Any]:
    """What a user of the client gets: texts, finish reasons, usage, and the error that was raised."""
    import openai  # type: ignore[import-not-found]  # of the client's environment

    told: dict[str, Any] = {"text": "", "finish": [], "usage": None, "error": None, "arguments": ""}
    place = asked["url"], asked["key"]
    if place not in clients:
        clients[place] = openai.OpenAI(base_url=asked["url"], api_key=asked["key"], max_retries=0, timeout=20)
    client = clients[place]
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
    """The other end of that process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def call(self, url: str, face: str = "chat", key: str = "eck_shop", **body: Any) -> dict[str, Any]:
        if face == "chat":
            body.setdefault("messages", [{"role": "user", "content": "Hello"}])
        elif face == "completions":
            body.setdefault("prompt", "Hello")
        else:
            body.setdefault("input", "Hello")
            body.setdefault("encoding_format", "float")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"url": f"{url}/v1", "key": key, "face": face, "body": body}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client's process ended"
        found: dict[str, Any] = json.loads(line)
        return found


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
        process.wait(10)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(call(json.loads(line))), flush=True)

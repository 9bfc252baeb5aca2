"""What OpenAI's own client makes of a kept answer that is given again as a stream: the answer itself."""

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ecotone.gateway.cache import Kept
from tests.clients.environments import environment
from tests.serving import Serving

SCRIPT = """
import sys, json, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="x", max_retries=0)
asked = dict(model="m", messages=[{"role": "user", "content": "hi"}], n=2, stream_options={"include_usage": True})
with client.chat.completions.stream(**asked) as stream:
    for event in stream:
        pass
    print(stream.get_final_completion().model_dump_json())
"""
TOKEN: dict[str, Any] = {"token": "Hé", "bytes": None, "logprob": -0.5, "top_logprobs": []}
CALLS = [
    {"id": f"call_{n}", "type": "function", "function": {"name": f"f{n}", "arguments": f'{{"n": {n}, "é": "\\n"}}'}}
    for n in (0, 1)
]
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "gpt-x-2026", "usage": USAGE,
    "system_fingerprint": "fp",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": None, "refusal": None, "tool_calls": CALLS},
         "logprobs": None, "finish_reason": "tool_calls"},
        {"index": 1, "message": {"role": "assistant", "content": "Héllo\u2028 you", "refusal": None, "reasoning": "so"},
         "logprobs": {"content": [TOKEN], "refusal": None}, "finish_reason": "stop"},
    ],
}  # fmt: skip


@pytest.fixture
def address() -> Iterator[str]:
    kept = Kept.of_whole("chat", json.dumps(ANSWER).encode())
    assert kept is not None
    stream = kept.stream(wants_usage=True)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("content-length", str(len(stream)))
            self.end_headers()
            self.wfile.write(stream)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with Serving(server):
        yield f"http://127.0.0.1:{server.server_port}/v1"


def test_openais_client_gets_from_the_stream_what_the_whole_answer_held(address: str) -> None:
    done = subprocess.run(
        [environment("openai") / "python", "-c", SCRIPT, address], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    for mine, want in zip(got["choices"], ANSWER["choices"], strict=True):
        assert mine["finish_reason"] == want["finish_reason"]
        told = {k: v for k, v in mine["message"].items() if k in want["message"]}
        for call in told.get("tool_calls") or []:
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        assert told == want["message"]
        assert (mine["logprobs"] or {}).get("content") == (want["logprobs"] or {}).get("content")
    assert (got["id"], got["model"]) == ("chatcmpl-1", "gpt-x-2026")
    assert (got["usage"]["total_tokens"], got["usage"]["cached"], got["usage"]["cost"]) == (13, True, 0)

"""An engine at the wire of the gateway: `/tasks/TASK` and OpenAI's endpoints over a Unix socket.

python engine.py SOCKET SECONDS     answers until it is killed; writes a line for each request that has come

A text holding a word of the list misbehaves: `slowly` waits so many seconds before it answers, `pausing` in
a stream behind each word, `wrong` is refused, `crowded` is one too many,
`broken` is a fault, `torn` ends a stream in its middle, `failing` reports an error in one, `junk` is no JSON.
"""

import http.server
import json
import os
import re
import socketserver
import sys
import time
from pathlib import Path
from typing import Any

BY_MODEL = {"bert": "fill-mask", "minilm": "feature-extraction", "t5": "translation", "llama": "text-generation"}
ENTITY = {"entity_group": "PER", "score": 0.9, "word": "Ada", "start": 0, "end": 3}
TEXTS: dict[str, Any] = {"generated_text": "Paris", "translation_text": "Paris", "summary_text": "Paris"}
ANSWERS: dict[str, Any] = {
    "fill-mask": [{"score": 0.9, "token": 7, "token_str": "France", "sequence": "Paris is in France."}],
    "feature-extraction": [[0.25, 0.5, -1.0]],
    "text-classification": [[{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]],
    "token-classification": [ENTITY],
    "question-answering": {"answer": "Paris", "score": 0.9, "start": 0, "end": 5},
    "sentence-similarity": [0.5, 0.25],
    "table-question-answering": {"answer": "7", "coordinates": [[0, 0]], "cells": ["7"], "aggregator": "NONE"},
    "translation": [TEXTS],
    "summarization": [TEXTS],
    "text-generation": [TEXTS],
}
TOKENS = {"text-generation": 3, "translation": 2, "summarization": 2}
WORDS = ["The", " capital", " is", " Paris"]


def task_of(task: str, model: str, body: dict[str, Any]) -> str:
    """What a body is taken for whose address names no task."""
    inputs, parameters = body["inputs"], body.get("parameters") or {}
    if task != "auto":
        return task
    if isinstance(inputs, dict):
        keys = {"source_sentence": "sentence-similarity", "question": "question-answering"}
        return next((named for key, named in keys.items() if key in inputs), "table-question-answering")
    if "candidate_labels" in parameters:
        return "zero-shot-classification"
    if "aggregation_strategy" in parameters:
        return "token-classification"
    if "function_to_apply" in parameters:
        return "text-classification"
    return next(named for part, named in BY_MODEL.items() if part in model)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "Engine"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = json.dumps(body)
        self.server.took(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        if "slowly" in text:
            time.sleep(self.server.seconds)
        if "wrong" in text:
            return self.answer(422, {"error": "Input validation error: it is wrong", "error_type": "validation"})
        if "crowded" in text:
            return self.answer(429, {"error": "too many wait already", "error_type": "overloaded"})
        if "broken" in text:
            return self.answer(500, {"error": "it broke", "error_type": "generation"})
        if self.path == "/v1/chat/completions":
            return self.chat(body)
        if self.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            return self.answer(200, {"object": "list", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})
        if "unknown" in text:
            self.send_error(404)
            return None
        task = task_of(self.path.removeprefix("/tasks/"), self.headers["x-ecotone-model"], body)
        if body.get("stream") and task == "text-generation":
            return self.stream(text)
        if task == "zero-shot-classification":
            new = re.search(r"hf_hub/(\d+)\.(\d+)", self.headers.get("user-agent") or "")
            old = new is not None and (int(new[1]), int(new[2])) < (1, 2)
            value: Any = {"sequence": body["inputs"], "labels": ["good", "bad"], "scores": [0.9, 0.1]}
            value = value if old else [{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]
        else:
            value = ANSWERS[task]
        if "junk" in text:
            value = None
        told = {"x-ecotone-task": task, "x-ecotone-usage": f"12,{TOKENS.get(task, 0)}"}
        return self.answer(200, value, told)

    def chat(self, body: dict[str, Any]) -> None:
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        head = {"id": "c", "created": 1, "model": body["model"], "system_fingerprint": "e"}
        if body.get("stream"):
            self.begin()
            for word in WORDS:
                choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
                self.event({**head, "object": "chat.completion.chunk", "choices": [choice]})
            choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
            self.event({**head, "object": "chat.completion.chunk", "choices": [choice]})
            self.event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            self.piece(b"data: [DONE]\n\n")
            return self.end()
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self.answer(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def stream(self, text: str) -> None:
        self.begin()
        for number, word in enumerate(WORDS):
            token = {"id": number, "text": word, "logprob": -0.5, "special": False}
            last = number + 1 == len(WORDS)
            details = {"finish_reason": "length", "generated_tokens": 4, "input_length": 12, "seed": None}
            whole = {"generated_text": "".join(WORDS), "details": details} if last else {}
            self.event({"index": number + 1, "token": token, "generated_text": None, "details": None, **whole})
            if number == 1 and "torn" in text:
                self.close_connection = True
                return
            if number == 1 and "failing" in text:
                self.event({"error": "it failed", "error_type": "generation"})
                break
            if "pausing" in text:
                time.sleep(self.server.seconds)
        self.end()

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("x-ecotone-task", "text-generation")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def event(self, value: Any) -> None:
        self.piece(b"data:" + json.dumps(value).encode() + b"\n\n")

    def piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = b"{no json" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, told in (headers or {}).items():
            self.send_header(name, told)
        self.end_headers()
        self.wfile.write(data)


class Engine(socketserver.ThreadingUnixStreamServer):
    """Listens; `paths`, `headers` and `bodies` are of the requests that came."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, path: Path, seconds: float = 0.5, *, tell: bool = False) -> None:
        super().__init__(str(path), Handler)
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.seconds = seconds
        self._tell = tell

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = self.socket.accept()
        return connection, ("engine", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The gateway has gone: nobody reads the answer."""

    def took(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        if self._tell:
            os.write(1, b"took\n")


if __name__ == "__main__":
    engine = Engine(Path(sys.argv[1]), float(sys.argv[2]), tell=True)
    os.write(1, b"ready\n")
    engine.serve_forever()

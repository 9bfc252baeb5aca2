"""A stand-in for a proprietary provider, at the wire: OpenAI's chat completions, plain and streamed, as an echo.

Remembers what reached it, so that the demonstration can show what left the house.
"""

import http.server
import json

from tests.serving import Serving


class Provider:
    """Listens on a free port of 127.0.0.1 until it is stopped."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.seen.append(body)
                text = f"You said: {body['messages'][-1]['content']}"
                head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
                usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
                if body.get("stream"):
                    self._stream(head, text, usage)
                    return
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, head: dict[str, object], text: str, usage: dict[str, int]) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                pieces = [{"content": text[i : i + 5]} for i in range(0, len(text), 5)]
                for delta in pieces:
                    self._event(head, [{"index": 0, "delta": delta, "finish_reason": None}])
                self._event(head, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
                self._event(head, [], usage)
                self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def _event(self, head: dict[str, object], choices: list[object], usage: object = None) -> None:
                chunk = {**head, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._serving = Serving(self._server)

    def stop(self) -> None:
        self._serving.stop()

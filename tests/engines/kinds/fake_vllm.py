"""A stand-in for the command `vllm`, at the wire: its flags, routes, key, metrics and events, as vLLM 0.32 has them.

It counts words as tokens and answers with the words of the prompt. Prompts steer it: `hang` stops all tokens for ever
while `/health` stays well, `die` ends the process, `slow` takes 0.2 s for each token. Standard library alone,
so that any interpreter runs it.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

_GUARDED = ("/v1", "/v2", "/inference", "/cohere")


def options(argv):
    """The flags of `vllm serve` that are used here; an unknown one ends the program, as vLLM's parser does."""
    parser = argparse.ArgumentParser(prog="vllm serve")
    parser.add_argument("model")
    parser.add_argument("--uds")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name", nargs="+", required=True)
    parser.add_argument("--lora-modules", nargs="+", default=[])
    for name in ("max-model-len", "max-num-seqs", "max-loras", "max-lora-rank", "max-cpu-loras"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--load-format", choices=["auto", "safetensors", "pt"], default="auto")
    for name in ("dtype", "gpu-memory-utilization", "tool-call-parser"):
        parser.add_argument(f"--{name}")
    for name in ("enable-lora", "disable-uvicorn-access-log", "enable-auto-tool-choice"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(argv)


class Engine:
    def __init__(self, flags):
        self.flags = flags
        self.lock = threading.Lock()
        self.running = self.written = self.read = 0
        self.hung = threading.Event()
        self.adapters = dict(pair.split("=", 1) for pair in flags.lora_modules)

    def names(self):
        return [*self.flags.served_model_name, *self.adapters]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine = None

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200, kind="application/json"):
        raw = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def fails(self, status, message, code="invalid_request_error"):
        self.answer({"error": {"message": message, "type": code, "param": None, "code": status}}, status)

    def admitted(self):
        key = os.environ.get("VLLM_API_KEY")
        guarded = self.path.startswith(_GUARDED)
        if guarded and key and self.headers.get("authorization") != f"Bearer {key}":
            self.answer({"error": "Unauthorized"}, 401)
            return False
        return True

    def do_GET(self):
        if not self.admitted():
            return
        engine, flags = self.engine, self.engine.flags
        if self.path == "/health":
            self.answer("", kind="text/plain")
        elif self.path == "/version":
            self.answer({"version": "0.32.0"})
        elif self.path == "/v1/models":
            length = flags.max_model_len or 4096
            first = flags.served_model_name[0]
            made = [
                {"id": n, "object": "model", "root": flags.model, "parent": None, "max_model_len": length}
                for n in flags.served_model_name
            ]
            made += [{"id": n, "object": "model", "root": p, "parent": first} for n, p in engine.adapters.items()]
            self.answer({"object": "list", "data": made})
        elif self.path == "/metrics":
            label = f'{{engine="0",model_name="{flags.served_model_name[0]}"}}'
            self.answer(
                f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{label} {engine.running}.0\n"
                f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{label} 0.0\n"
                f"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{label} 0.25\n"
                f"# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total{label} {engine.read}.0\n"
                f"# TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total{label} {engine.written}.0\n",
                kind="text/plain; version=0.0.4",
            )
        else:
            self.fails(404, "Not Found")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        if not self.admitted():
            return
        if self.path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            self.adapter(body)
        elif self.path in ("/v1/chat/completions", "/v1/completions"):
            if body["model"] not in self.engine.names():
                self.fails(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
            else:
                self.write(body)
        else:
            self.fails(404, "Not Found")

    def adapter(self, body):
        engine = self.engine
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "1" or not engine.flags.enable_lora:
            return self.fails(404, "Not Found")
        name = body["lora_name"]
        if self.path == "/v1/unload_lora_adapter":
            if engine.adapters.pop(name, None) is None:
                return self.fails(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
            return self.answer("Success: LoRA adapter removed.", kind="text/plain")
        rank = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())["r"]
        if rank > (engine.flags.max_lora_rank or 16):
            return self.fails(400, f"LoRA rank {rank} is greater than max_lora_rank.", "BadRequestError")
        engine.adapters[name] = body["lora_path"]
        return self.answer("Success: LoRA adapter added.", kind="text/plain")

    def write(self, body):
        engine = self.engine
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        words = prompt.split()
        count = min(int(body.get("max_tokens") or 16), 64)
        with engine.lock:
            engine.running += 1
            engine.read += len(words)
        try:
            texts = self.words(words, count)
            self.stream(body, texts, len(words)) if body.get("stream") else self.whole(body, texts, len(words))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with engine.lock:
                engine.running -= 1

    def words(self, words, count):
        engine = self.engine
        for place in range(count):
            if "die" in words and place:
                os._exit(1)
            if "hang" in words:
                engine.hung.set()
            while engine.hung.is_set():
                time.sleep(0.05)
            if "slow" in words:
                time.sleep(0.2)
                self.check_caller()
            with engine.lock:
                engine.written += 1
            yield words[place % len(words)] + " "

    def check_caller(self):
        """As vLLM does between two tokens: nothing is computed for one that has left."""
        try:
            gone = self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            gone = False
        if gone:
            raise BrokenPipeError

    def shape(self, body, choice, more=None):
        kind = "chat.completion" if "messages" in body else "text_completion"
        if body.get("stream") and "messages" in body:
            kind += ".chunk"
        return {"id": "x-1", "object": kind, "created": 1, "model": body["model"], "choices": choice, **(more or {})}

    def usage(self, read, made):
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    def whole(self, body, texts, read):
        made = list(texts)
        text = "".join(made)
        said = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        choice = [{"index": 0, "finish_reason": "length", **said}]
        self.answer(self.shape(body, choice, {"usage": self.usage(read, len(made)), "salt": body.get("cache_salt")}))

    def stream(self, body, texts, read):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        made = 0
        for text in texts:
            made += 1
            said = {"delta": {"content": text}} if "messages" in body else {"text": text}
            self.event(json.dumps(self.shape(body, [{"index": 0, "finish_reason": None, **said}])))
        end = {"delta": {}} if "messages" in body else {"text": ""}
        self.event(json.dumps(self.shape(body, [{"index": 0, "finish_reason": "length", **end}])))
        if (body.get("stream_options") or {}).get("include_usage"):
            self.event(json.dumps(self.shape(body, [], {"usage": self.usage(read, made)})))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        raw = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(raw), raw))
        self.wfile.flush()


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("unix", 0)


def main():
    if sys.argv[1:2] != ["serve"]:
        sys.exit("usage: vllm serve MODEL")
    flags = options(sys.argv[2:])
    print("arguments", json.dumps(sys.argv[1:]), flush=True)
    print("environment", json.dumps(sorted(os.environ)), flush=True)
    if not list(Path(flags.model).glob("*.safetensors")):
        sys.exit("ValueError: no safetensors weights found")
    Handler.engine = Engine(flags)
    if not flags.uds:
        ThreadingHTTPServer(("127.0.0.1", flags.port), Handler).serve_forever()
    server = Server(flags.uds, Handler, bind_and_activate=False)
    server.request_queue_size = 64
    server.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.server_bind()
    server.server_activate()
    server.serve_forever()


if __name__ == "__main__":
    main()

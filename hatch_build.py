"""What the wheel holds beside the sources: the compiled knowledge base, and the gateway's request path as C.

The path's modules (`tool.ecotone` in pyproject.toml) are compiled by mypyc. The sources stay in the wheel and mean the
same without it. ECOTONE_COMPILE=0 leaves it, 1 fails where it cannot be done; without either it is done where there is
a C compiler with Python's headers. An editable install has neither: a compiled module would hide an edited one.
"""

import contextlib
import io
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What is not ours is left unread, so that the same C comes out whichever packages are installed.
MYPY = """[mypy]
mypy_path = {source}
follow_imports = skip
ignore_missing_imports = True
cache_dir = {cache}
[mypy-ecotone.*]
follow_imports = silent
[mypy-msgspec.*]
follow_imports = silent
"""


class BuildWheel(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout keeps its own knowledge base in the user's cache
            return
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        build_data["force_include"] |= self._knowledge(folder)
        if modules := self._modules(folder):
            build_data["force_include"] |= modules
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()

    def _knowledge(self, folder: Path) -> dict[str, str]:
        """The knowledge base packed, so that it loads in milliseconds from the first start."""
        sys.path.insert(0, str(Path(self.root, "src")))
        from ecotone.licences.entries import FOLDER, compiled
        from ecotone.licences.packed import SHIPPED

        file = folder / SHIPPED
        file.write_bytes(compiled(FOLDER)[1])
        return {str(file): f"ecotone/licences/{SHIPPED}"}

    def _modules(self, folder: Path) -> dict[str, str]:
        """Compiled modules and their places in the wheel; none, and a line that says why, where that cannot be."""
        wanted = os.environ.get("ECOTONE_COMPILE", "")
        if wanted not in ("", "0", "1"):
            self.app.abort(f"ECOTONE_COMPILE is {wanted!r}; it takes 0 (never), 1 (fail where it cannot be) or nothing")
        if wanted == "0":
            return {}
        try:
            return made(Path(self.root), folder)
        except Missing as missing:
            if wanted == "1":
                self.app.abort(f"the gateway cannot be compiled, as ECOTONE_COMPILE=1 wants: {missing}")
            self.app.display_warning(f"the gateway is not compiled and runs interpreted: {missing}")
            return {}


class Missing(Exception):
    """Why the modules cannot be compiled here."""


def made(root: Path, folder: Path) -> dict[str, str]:
    """Compile the modules that pyproject.toml lists: {file: its place in the wheel}. Missing where that fails."""
    _check()
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["ecotone"]["compiled"]
    out = folder / "compiled"
    with contextlib.chdir(root), _told():
        _compile([f"src/ecotone/{name}.py" for name in listed], folder, out)
    return {str(file): file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}


def _check() -> None:
    """Missing, with what there is not that compiling needs."""
    if os.name != "posix" or sys.implementation.name != "cpython":
        raise Missing(
            f"that is done for CPython on Linux and macOS alone, not for {sys.implementation.name} on {os.name}"
        )
    told = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    try:
        compiler = shlex.split(told)[0]
    except (ValueError, IndexError):
        raise Missing(f"the C compiler cannot be read from CC={told!r}; a command line is expected") from None
    if shutil.which(compiler) is None:
        raise Missing(f"there is no C compiler, {compiler} is not to be found (on Debian: apt-get install gcc)")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise Missing(f"Python's headers are absent, there is no {header} (on Debian: apt-get install python3-dev)")
    for name, package in (("mypyc", "mypy"), ("setuptools", "setuptools")):
        if find_spec(name) is None:
            raise Missing(f"{package} is not installed (pip install '{package}')")


def _compile(sources: list[str], folder: Path, out: Path) -> None:
    import setuptools  # before mypyc, which else looks for distutils
    from mypyc.build import mypycify

    settings = folder / "mypy.ini"
    settings.write_text(MYPY.format(source=Path("src").resolve(), cache=folder / "cache"))
    modules = mypycify(
        ["--config-file", str(settings), *sources],
        opt_level="3",
        debug_level="0",
        target_dir=str(folder / "c"),
        group_name="ecotone_gateway",
    )
    for module in modules:
        module.extra_compile_args = [*module.extra_compile_args, "-Wno-error"]  # a newer compiler warns of more
        if sys.platform == "linux":
            module.extra_link_args = [*module.extra_link_args, "-Wl,--strip-all"]
    command = setuptools.Distribution({"name": "ecotone", "ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(out), str(folder / "objects")
    command.ensure_finalized()
    command.run()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Missing when mypyc refuses a module, with what it says of it, or when the compiler fails."""
    from setuptools.errors import BaseError, CCompilerError

    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            yield
    except SystemExit as end:
        errors = [line for line in told.getvalue().splitlines() if ": error:" in line]
        raise Missing("\n".join(["mypyc refuses it", *errors] if errors else [f"mypyc ended with {end}"])) from None
    except (BaseError, CCompilerError) as error:
        raise Missing(f"the C compiler failed, for the reason above ({type(error).__name__})") from None

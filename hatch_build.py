"""Puts the compiled knowledge base into the wheel, so that it loads in milliseconds from the first start."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileKnowledge(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout keeps its own in the user's cache
            return
        sys.path.insert(0, str(Path(self.root, "src")))
        from ecotone.licences.entries import FOLDER, compiled
        from ecotone.licences.packed import SHIPPED

        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name, SHIPPED)
        file.write_bytes(compiled(FOLDER)[1])
        build_data["force_include"][str(file)] = f"ecotone/licences/{SHIPPED}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()

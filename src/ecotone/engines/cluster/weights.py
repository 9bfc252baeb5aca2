"""A revision's files on the machine where a replica runs: a folder that both machines see, else a copy from the hub.

The machine's own variables ECOTONE_HUB_URL and ECOTONE_HUB_TOKEN say where the hub is and who asks; so no token travels
through Ray, which keeps what replicas are made with in the open.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecotone.engines.server.errors import Unloadable

_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def folders(spec: Mapping[str, Any]) -> tuple[Path, Path | None]:
    """The revision's folder, and its base's when it is an adapter.

    Args:
        spec: `model`, `revision`; `folder` and `base` where the server has them, or absent.

    Raises:
        Unloadable: they are not seen here, and the hub is not named or does not give them.
    """
    folder, base = spec.get("folder"), spec.get("base")
    if folder and Path(folder).is_dir() and (base is None or Path(base).is_dir()):
        return Path(folder), None if base is None else Path(base)
    if base is not None:
        raise Unloadable("it is an adapter, and its base's folder is not seen on this machine; share the data folder.")
    return _copy(spec["model"], spec["revision"]), None


def _copy(model: str, revision: str) -> Path:
    url, token = os.environ.get("ECOTONE_HUB_URL"), os.environ.get("ECOTONE_HUB_TOKEN")
    if not url:
        raise Unloadable(
            "its files are not on this machine; set ECOTONE_HUB_URL and ECOTONE_HUB_TOKEN on the cluster's machines, "
            "or share the data folder with them."
        )
    os.environ.pop("HF_HUB_OFFLINE", None)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model, revision=revision, endpoint=url, token=token or False, allow_patterns=_FILES, library_name="ecotone"
        )
    except Exception as error:  # the client has errors of its own for each thing that can go wrong
        said = " ".join(str(error).split())[:400]
        raise Unloadable(f"the hub at {url} does not give its files: {type(error).__name__}: {said}") from None
    return Path(found)

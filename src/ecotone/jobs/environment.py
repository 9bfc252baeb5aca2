"""The environment of a child process: an allow-list, so that no key or token of the server reaches work on strangers'
models and data."""

import fnmatch
import os
from collections.abc import Mapping

_ALLOWED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH"),
    *("OMP_*", "MKL_*", "NUMBA_*", "OPENBLAS_*", "KMP_*", "GOMP_*", "TORCH_*", "CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*"),
)
_FORBIDDEN = ("ECOTONE_*", "*_KEY", "*_KEYS", "*_TOKEN", "*_TOKENS", "*_SECRET", "*_PASSWORD", "*_CREDENTIALS")
_FIXED = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
}


def scrubbed(environ: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables a child may see: language, paths, threads and devices; model libraries are kept off the network.

    Args:
        environ: where to take from; the server's own environment by default.
        more: variables that win over all others; forbidden names (keys, tokens, `ECOTONE_*`) are dropped here too.
    """
    source = os.environ if environ is None else environ
    found = {name: value for name, value in source.items() if _matches(name, _ALLOWED)}
    found |= _FIXED
    found |= more or {}
    return {name: value for name, value in found.items() if not _matches(name, _FORBIDDEN)}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

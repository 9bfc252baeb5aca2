"""Where tests keep objects: in the test's folder, or in the bucket of the S3 server that `tests/s3.sh` started."""

import hashlib
import os
from pathlib import Path

import pytest

ENDPOINT = os.environ.get("ECOTONE_TEST_S3_ENDPOINT", "")
BUCKET = os.environ.get("ECOTONE_TEST_S3_BUCKET", "")


def placed(folder: Path) -> dict[str, str]:
    """Settings that give each folder objects of its own, the same each time."""
    if not ENDPOINT:
        return {}
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return {"objects": f"s3://{BUCKET}/{os.getpid()}-{name}", "s3_endpoint": ENDPOINT}


def placed_variables(folder: Path) -> dict[str, str]:
    """The same as environment variables."""
    return {f"ECOTONE_{name.upper()}": value for name, value in placed(folder).items()}


on_disk = pytest.mark.skipif(bool(ENDPOINT), reason="about files on this disk")
in_a_bucket = pytest.mark.skipif(not ENDPOINT, reason="needs an S3 server: tests/s3.sh COMMAND")

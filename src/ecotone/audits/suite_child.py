"""The child process of an audit: a model's folder in, a suite's result out. Never opens the database.

    python -m ecotone.audits.suite_child     (started by `jobs.child`)

Spec: `suite`, `folder`, `seed`. Result: the suite's, with how the vectors were taken and by what.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ecotone.audits.suites import Embedded, find
from ecotone.jobs.child_side import receive


def main() -> int:
    spec, report = receive()
    report({"progress": 0.0, "text": "loading libraries"})
    try:
        from ecotone.audits.encoding import CannotEmbed, TextEncoder
    except ImportError as error:
        report({"error": f'{error.name or error} is not installed; run: pip install "ecotone[audit]"'})
        return 1
    import ecotone.audits.weat_suite  # noqa: F401 - registers its suite

    report({"progress": 0.2, "text": "loading the model"})
    try:
        encoder = TextEncoder(Path(spec["folder"]))

        def embed(texts: Any) -> Embedded:
            report({"progress": 0.4, "text": f"{len(texts)} texts through the model"})
            found = encoder(texts)
            report({"progress": 0.7, "text": "comparing"})
            return found

        result = find(spec["suite"]).measure(embed, int(spec["seed"]))
    except CannotEmbed as error:
        report({"error": str(error)})
        return 1
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    report({"result": {**result, "scorer": encoder.scorer, "versions": versions}})
    return 0


if __name__ == "__main__":
    sys.exit(main())

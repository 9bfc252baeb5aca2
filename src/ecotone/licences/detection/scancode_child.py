"""Run by `second_opinion` with the interpreter that has ScanCode: a JSON list of paths comes in, a JSON object for each
goes out, one a line. Stands alone: that interpreter need not have Ecotone. Ends with status 3 where there is no engine.
"""

import json
import sys
import time


def main() -> int:
    try:
        from importlib.metadata import version

        from licensedcode.cache import get_index
        from scancode.api import get_licenses
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    engine = "scancode " + version("scancode-toolkit-mini")
    get_index()
    for path in json.load(sys.stdin):
        began = time.perf_counter()
        ids: dict[str, float] = {}
        failed = None
        try:
            for found in get_licenses(path, min_score=0)["license_detections"]:
                for match in found["matches"]:
                    for name in words(match["license_expression_spdx"]):
                        ids[name] = max(ids.get(name, 0.0), match["score"])
        except Exception as error:
            failed = str(error)[:300]
        seconds = time.perf_counter() - began
        print(json.dumps({"path": path, "ids": ids, "seconds": seconds, "engine": engine, "error": failed}), flush=True)
    return 0


def words(expression: str) -> list[str]:
    """Ids in an SPDX expression."""
    parts = expression.replace("(", " ").replace(")", " ").split()
    return [p for p in parts if p not in ("AND", "OR", "WITH")]


if __name__ == "__main__":
    raise SystemExit(main())

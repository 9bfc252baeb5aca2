"""The child process that reads weights: fingerprints of files, and all checks of a model against a few candidates.

    python -m ecotone.publishing.examine_child     (started by `jobs.child`)

Spec of the first: `prints`, a list of {name, path}, and `into`, a folder; each fingerprint becomes a file there, named
as its content is. Spec of the second: `child` {path, names}, `candidates` [{key, path, names}], `prints`, the folder
that holds fingerprints by name. A message `compared` is sent for each candidate that is done. `nice` lowers
the priority by so much.
"""

import contextlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ecotone.jobs.child_side import receive
from ecotone.lineage import BrokenWeights, Fingerprint, Source, open_weights
from ecotone.lineage.arriving import Print, Printing
from ecotone.lineage.comparing import Related, compare
from ecotone.lineage.comparing.merging import recover

_CHUNK = 4 * 1024 * 1024
_LEAST_MEMORY = 4 * 1024**3
_TOO_MUCH = "it needs more memory than half of what this machine has"
_CLOSEST = ("mirror_of", "converted", "quantised", "adapter_merged")

Report = Callable[[dict[str, Any]], None]


def main() -> int:
    spec, report = receive()
    _bound_memory()
    if spec.get("nice") and hasattr(os, "nice"):
        os.nice(int(spec["nice"]))
    try:
        report({"result": _prints(spec, report) if "into" in spec else _compared(spec, report)})
    except BrokenWeights as error:
        report({"error": error.message})
        return 1
    except MemoryError:
        report({"error": _TOO_MUCH})
        return 1
    return 0


def _bound_memory() -> None:
    """Half of the machine's memory at most: strangers choose the shapes that are read here."""
    most = max(_LEAST_MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    with contextlib.suppress(OSError, ValueError):  # where the system has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _prints(spec: dict[str, Any], report: Report) -> dict[str, Any]:
    files = spec["prints"]
    total = sum(Path(file["path"]).stat().st_size for file in files) or 1
    done = 0
    for file in files:
        path = Path(file["path"])
        printing = Printing(path.stat().st_size)
        with open(path, "rb", buffering=0) as opened:
            while piece := opened.read(_CHUNK):
                printing.feed(piece)
                done += len(piece)
                if "nice" not in spec:
                    report({"progress": 0.3 * done / total, "text": "reading weights"})
        found = printing.finish() or Print(None, "It begins like no weight file that is read here.")
        (Path(spec["into"]) / file["name"]).write_bytes(msgspec.msgpack.encode(found))
    return {"files": len(files)}


def _compared(spec: dict[str, Any], report: Report) -> dict[str, Any]:
    """The candidates that are related, merged where that explains the child better than any of them alone."""
    prints = Path(spec["prints"])
    child, own = open_weights(Path(spec["child"]["path"])), _print_of(prints, spec["child"]["names"])
    candidates = spec["candidates"]
    sources: dict[str, Source] = {}
    closest = False
    for number, candidate in enumerate(candidates):
        key = str(candidate["key"])

        def tell(done: int, count: int, number: int = number) -> None:
            part = (number + done / max(1, count)) / len(candidates)
            report({"progress": 0.3 + 0.6 * part, "text": f"candidate {number + 1} of {len(candidates)}"})

        try:
            sources[key] = open_weights(Path(candidate["path"]))
            if candidate.get("answer") is None:
                theirs = _print_of(prints, candidate["names"])
                known = (own, theirs) if own is not None and theirs is not None else None
                answer = compare(child, sources[key], prints=known, progress=tell).to_json()
                report({"compared": {"key": candidate["key"], "answer": answer}})
            else:
                answer = candidate["answer"]
        except (BrokenWeights, MemoryError) as error:
            why = error.message if isinstance(error, BrokenWeights) else _TOO_MUCH
            report({"log": f"candidate {number + 1} cannot be read: {why}"})
            sources.pop(key, None)
            continue
        closest = closest or (answer["related"] == Related.YES and answer["relation"] in _CLOSEST)
    if len(sources) < 2 or closest:
        return {"shares": {}}
    report({"progress": 0.9, "text": "looking for a merge"})
    mix = recover(child, sources)
    return {"shares": dict(mix.weights) if mix.merged else {}, "residual": mix.residual}


def _print_of(folder: Path, names: list[str]) -> Fingerprint | None:
    whole: Fingerprint | None = None
    for name in names:
        file = folder / name
        found = msgspec.msgpack.decode(file.read_bytes(), type=Print) if file.exists() else None
        if found is not None and found.fingerprint is not None:
            whole = found.fingerprint if whole is None else whole.joined(found.fingerprint)
    return whole


if __name__ == "__main__":
    sys.exit(main())

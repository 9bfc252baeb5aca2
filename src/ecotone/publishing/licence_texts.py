"""Licence texts in a repository: which of its files speak for the whole work, and what they are found to be."""

from collections.abc import Mapping

from ecotone.catalog import File
from ecotone.licences import KnowledgeBase
from ecotone.licences.detection import OF_THE_WORK, Conclusion, Detection, detect
from ecotone.storage import Storage

MOST_FILES = 8
MOST_BYTES = 256 * 1024


def detections(files: Mapping[str, File], storage: Storage, knowledge: KnowledgeBase) -> list[Detection]:
    """What the licence files at the root hold; of a long one its first 256 KiB."""
    named = sorted(path for path in files if OF_THE_WORK.fullmatch(path))[:MOST_FILES]
    found: list[Detection] = []
    for path in named:
        content = files[path].content
        raw = b"".join(storage.read(content, 0, min(content.size, MOST_BYTES)))
        found += detect(raw.decode("utf-8", "replace"), knowledge, whole=True)
    return found


def told(conclusion: Conclusion) -> list[str]:
    """The conflicts between card and texts as sentences."""
    return [
        f"Licence: the card says {conflict['declared'] or 'nothing'}, the licence file shows {conflict['detected']}: "
        f"{conflict['reason']}."
        for conflict in conclusion.conflicts
    ]

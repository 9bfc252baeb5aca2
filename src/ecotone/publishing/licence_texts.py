"""Licence texts in a repository: what those of its files are found to hold that speak for the whole work."""

from collections.abc import Mapping

from ecotone.catalog import File
from ecotone.licences import KnowledgeBase
from ecotone.licences.detection import Conclusion, Detection, of_the_work
from ecotone.storage import Storage


def detections(files: Mapping[str, File], storage: Storage, knowledge: KnowledgeBase) -> list[Detection]:
    """What the licence files of a revision hold."""

    def read(path: str, most: int) -> bytes:
        content = files[path].content
        return b"".join(storage.read(content, 0, min(content.size, most)))

    return of_the_work(files, read, knowledge)


def told(conclusion: Conclusion) -> list[str]:
    """The conflicts between card and texts as sentences."""
    return [
        f"Licence: the card says {conflict['declared'] or 'nothing'}, the licence file shows {conflict['detected']}: "
        f"{conflict['reason']}."
        for conflict in conclusion.conflicts
    ]

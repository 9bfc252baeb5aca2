"""Licence texts in a repository: which of its files speak for the whole work, and what they are found to be."""

from collections.abc import Mapping

from ecotone.catalog import File
from ecotone.licences import KnowledgeBase
from ecotone.licences.detection import OF_THE_WORK, Conclusion, Detection, of_a_licence_file
from ecotone.licences.detection.reading import decoded
from ecotone.storage import Storage

MOST_FILES = 8
MOST_BYTES = 256 * 1024


def detections(files: Mapping[str, File], storage: Storage, knowledge: KnowledgeBase) -> list[Detection]:
    """What the licence files at the root hold; of a long one its first 256 KiB."""
    named = sorted(path for path in files if _speaks(path))[:MOST_FILES]
    found: list[Detection] = []
    for path in named:
        content = files[path].content
        raw = b"".join(storage.read(content, 0, min(content.size, MOST_BYTES)))
        found += of_a_licence_file(decoded(raw), knowledge)
    return found


def _speaks(path: str) -> bool:
    """A licence file at the root, or in a folder that is named for licences."""
    folder, _, name = path.rpartition("/")
    return folder.lower() in ("", "license", "licenses", "licence", "licences") and bool(OF_THE_WORK.fullmatch(name))


def told(conclusion: Conclusion) -> list[str]:
    """The conflicts between card and texts as sentences."""
    return [
        f"Licence: the card says {conflict['declared'] or 'nothing'}, the licence file shows {conflict['detected']}: "
        f"{conflict['reason']}."
        for conflict in conclusion.conflicts
    ]

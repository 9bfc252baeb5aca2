"""Knowledge bases that were in force before: files in a folder, so that old answers can be compared with new ones."""

from pathlib import Path

from ecotone.licences import packed
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.errors import VersionNotFound

_SUFFIX = ".msgpack"
_SHOWN = 12  # digits of a digest in a name


def name_of(knowledge: KnowledgeBase) -> str:
    """How a state of knowledge is called: its version and the beginning of its digest."""
    return f"{knowledge.version}-{knowledge.digest[:_SHOWN]}"


def keep_version(knowledge: KnowledgeBase, folder: Path) -> None:
    """Write the knowledge base to a folder unless it is there. Raises OSError."""
    file = folder / f"{name_of(knowledge)}{_SUFFIX}"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed.write(file, knowledge.to_bytes())


def versions(folder: Path) -> list[str]:
    """Names of the versions in a folder, oldest file first."""
    files = sorted(folder.glob(f"[!.]*{_SUFFIX}"), key=lambda f: f.stat().st_mtime)
    return [f.name.removesuffix(_SUFFIX) for f in files]


def version_of(present: KnowledgeBase, folder: Path, version: str) -> KnowledgeBase:
    """The version of a name, of which the beginning is enough while it is clear; the newest of that version number.

    Raises:
        VersionNotFound: when the folder has none such.
        BrokenEntry: when its file is damaged.
    """
    if version in (name_of(present), present.digest, "present"):
        return present
    known = versions(folder)
    found = [name for name in known if name == version or name.startswith(version + "-")]
    found = found or [name for name in known if version and name.startswith(version)]
    if not found:
        raise VersionNotFound(version, known)
    return KnowledgeBase.open(folder / f"{found[-1]}{_SUFFIX}")

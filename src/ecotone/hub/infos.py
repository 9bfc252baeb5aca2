"""The JSON objects of the protocol: repositories, files, folders, commits (sections 1.4, 1.5). Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ecotone.catalog import BY_WEIGHTS, SAID_SO, File, Folder, Model, Revision
from ecotone.vocabulary import RepoType

Info = dict[str, Any]


def moment(value: datetime) -> str:
    """ISO 8601 in UTC ending in Z; `+00:00` raises in the clients."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


def is_large(file: File) -> bool:
    return file.content.sha256 is not None


def etag(file: File) -> str:
    """sha256 of a large file, git blob id of a small one: stable over every form of storage."""
    return file.content.sha256 or file.content.git_oid


def file_item(
    file: File, commit: tuple[str, datetime] | None = None, *, hashes: bool = True, xet_hash: str | None = None
) -> Info:
    """A file as listings show it; without `hashes` for those whom the gate keeps out of the bytes.

    Args:
        xet_hash: of a file that came whole and was converted since.
    """
    content = file.content
    item: Info = {"type": "file", "oid": content.git_oid, "size": content.size, "path": file.path}
    if content.sha256 is not None and hashes:
        item["lfs"] = {"oid": content.sha256, "size": content.size, "pointerSize": content.pointer_size or 0}
        if (name := content.xet_hash or xet_hash) is not None:
            item["xetHash"] = name
    if commit is not None:
        item["lastCommit"] = {"id": file.last_commit, "title": commit[0], "date": moment(commit[1])}
    return item


def folder_item(folder: Folder, commit: tuple[str, datetime] | None = None) -> Info:
    item: Info = {"type": "directory", "oid": folder.oid, "size": 0, "path": folder.path}
    if commit is not None:
        item["lastCommit"] = {"id": folder.last_commit, "title": commit[0], "date": moment(commit[1])}
    return item


def sibling(file: File, *, blobs: bool, hashes: bool = True) -> Info:
    item: Info = {"rfilename": file.path}
    if blobs:
        item["size"] = file.content.size
        item["blobId"] = file.content.git_oid
        if file.content.sha256 is not None and hashes:
            item["lfs"] = {
                "size": file.content.size,
                "sha256": file.content.sha256,
                "pointerSize": file.content.pointer_size or 0,
            }
    return item


def repo_info(
    model: Model,
    revision: Revision | None = None,
    files: Mapping[str, File] | None = None,
    *,
    blobs: bool = False,
    hashes: bool = True,
    children: int | None = None,
    used: int | None = None,
    served: bool = False,
) -> Info:
    """A repository. `revision` adds what its card says, `files` its siblings, with their hashes unless told not to,
    `used` the bytes that it takes. `served` is told of models that can be called here just now."""
    info: Info = {
        "_id": f"{model.key:024x}",
        "id": model.id,
        "author": model.namespace,
        "sha": revision.id if revision else model.head,
        "lastModified": moment(model.updated),
        "createdAt": moment(model.created),
        "private": model.private,
        "visibility": "private" if model.private else "public",
        "gated": model.gated or False,
        "disabled": False,
        "downloads": model.downloads,
        "downloadsAllTime": model.downloads,
        "likes": model.likes,
        "trendingScore": 0,
        "tags": list(model.tags),
        "xetEnabled": True,
    }
    if model.repo_type is RepoType.MODEL:
        info["modelId"] = model.id
        info["library_name"] = model.library
        info["pipeline_tag"] = model.pipeline_tag
        info["inference"] = "warm" if served else None
    if used is not None:
        info["usedStorage"] = used
    if children is not None:
        info["childrenModelCount"] = children
    if revision is not None:
        info |= _of_revision(model, revision)
    if files is not None:
        info["siblings"] = [sibling(file, blobs=blobs, hashes=hashes) for file in files.values()]
    return {k: v for k, v in info.items() if v is not None}


def _of_revision(model: Model, revision: Revision) -> Info:
    found: Info = {"cardData": revision.card or None}
    if model.repo_type is RepoType.MODEL:
        found["config"] = revision.config or None
        found["model-index"] = revision.card.get("model-index")
        found["widgetData"] = revision.card.get("widget")
        if revision.weights:
            found["safetensors"] = {"parameters": revision.weights["parameters"], "total": revision.weights["total"]}
        edges = [
            edge
            for edge in revision.edges
            if edge.asserted_by != BY_WEIGHTS and not edge.rejected and edge.evidence != SAID_SO
        ]
        parents = sorted({edge.parent for edge in edges})
        if parents:
            found["baseModels"] = {
                "relation": edges[0].relation.value,
                "models": [{"id": parent} for parent in parents],
            }
    if model.repo_type is RepoType.DATASET:
        found["description"] = revision.card_text[:400] or None
        found["paperswithcode_id"] = revision.card.get("paperswithcode_id")
    if model.repo_type is RepoType.SPACE:
        found["sdk"] = revision.card.get("sdk") or "static"
        found["models"] = revision.card.get("models")
        found["datasets"] = revision.card.get("datasets")
    return found


def expanded(info: Info, fields: list[str]) -> Info:
    """Only the id and the properties that were asked for."""
    if not fields:
        return info
    return {k: v for k, v in info.items() if k in ("_id", "id", *fields)}


def commit_item(revision: Revision, *, formatted: bool = False) -> Info:
    item: Info = {
        "id": revision.id,
        "title": revision.title,
        "message": revision.message,
        "authors": [{"user": revision.author}],
        "date": moment(revision.date),
    }
    if formatted:
        item["formatted"] = {"title": revision.title, "message": revision.message}
    return item

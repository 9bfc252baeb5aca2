"""Lists of repositories and single ones (protocol sections 1.3 and 1.4)."""

from collections import Counter
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from ecotone.catalog import Model, Revision
from ecotone.hub.endpoint import KINDS, Call, Handler, answer, api_routes, plain_route
from ecotone.hub.infos import expanded, repo_info
from ecotone.hub.repositories import next_page
from ecotone.hub.weights import ShardedMetadata
from ecotone.vocabulary import Invalid, ModelKind, RepoType

DEFAULT_LIMIT = 500
_OF_REVISION = {"cardData", "config", "safetensors", "model-index", "usedStorage", "baseModels", "widgetData", "sdk"}


def listing(call: Call) -> Any:
    """GET /api/models, /api/datasets, /api/spaces"""
    query = call.query
    expand = query.getlist("expand") + query.getlist("expand[]")
    found = call.catalog.models(
        viewer=call.actor,
        search=query.getlist("search"),
        author=query.get("author"),
        filters=_filters(call),
        kind=ModelKind.WEIGHTS,
        stored=True,
        repo_type=call.repo_type,
        sort=query.get("sort") or "lastModified",
        limit=call.number("limit", DEFAULT_LIMIT, 1000) or DEFAULT_LIMIT,
        cursor=query.get("cursor"),
    )
    full = call.flag("full")
    deep = full or call.flag("cardData") or call.flag("config") or bool(_OF_REVISION & set(expand))
    rows = []
    for model in found.models:
        if not _has_gate(model, query.get("gated")):
            continue
        revision = call.catalog.revision(model) if deep and model.head else None
        files = None
        if revision is not None and (full or "siblings" in expand):
            files = call.catalog.manifest(revision)
        rows.append(expanded(repo_info(model, revision, files), expand))
    headers = {}
    if found.next_cursor is not None:
        headers["link"] = f'<{next_page(call, cursor=found.next_cursor)}>; rel="next"'
    return answer(rows, headers=headers)


def _filters(call: Call) -> list[str]:
    query = call.query
    found = [word for text in query.getlist("filter") for word in text.split(",") if word]
    found += [text for name in ("pipeline_tag", "library", "apps") for text in query.getlist(name) if text]
    for name in ("task_categories", "size_categories", "language"):
        found += [text if ":" in text or name == "language" else f"{name}:{text}" for text in query.getlist(name)]
    return [text.removeprefix("language:").removeprefix("library:") for text in found]


def _has_gate(model: Model, wanted: str | None) -> bool:
    return wanted is None or wanted == "" or (model.gated is not None) == (wanted.lower() in ("true", "1"))


def info(call: Call) -> Any:
    """GET /api/{kind}/{id} and /api/{kind}/{id}/revision/{rev}"""
    model = call.model()
    if call.request.headers.get("x-hf-download-counter") == "1":
        count_download(call, model)
    revision = call.catalog.revision(model, call.path.get("rev", "main"))
    return _info(call, model, revision)


def _info(call: Call, model: Model, revision: Revision) -> Any:
    expand = call.query.getlist("expand") + call.query.getlist("expand[]")
    children = len(call.catalog.children(model, viewer=call.actor)) if "childrenModelCount" in expand else None
    files, hashes = call.catalog.manifest(revision), call.catalog.passes_gate(model, call.actor)
    shown = repo_info(model, revision, files, blobs=call.flag("blobs"), hashes=hashes, children=children)
    if call.flag("securityStatus") or "securityRepoStatus" in expand:
        shown["securityRepoStatus"] = {"scansDone": False, "filesWithIssues": []}
    return expanded(shown, expand)


def count_download(call: Call, model: Model) -> None:
    """Count a download once for each caller and while."""
    client = call.request.client.host if call.request.client else ""
    call.catalog.count_download(model, f"{call.actor.name} {client} {call.request.headers.get('user-agent', '')[:100]}")


def tags_by_type(call: Call) -> Any:
    """GET /api/models-tags-by-type and /api/datasets-tags-by-type"""
    counted: Counter[str] = Counter()
    found = call.catalog.models(viewer=call.actor, stored=True, repo_type=call.repo_type, limit=1000)
    for model in found.models:
        counted.update(model.tags)
    groups: dict[str, list[dict[str, str]]] = {}
    for tag, _ in counted.most_common(5000):
        kind, colon, rest = tag.partition(":")
        kind = kind if colon else "other"
        groups.setdefault(kind, []).append({"id": tag, "label": rest or tag, "type": kind})
    return groups


def leaderboard(call: Call) -> Any:
    """GET /api/datasets/{id}/leaderboard"""
    call.model()
    return []


def safetensors_metadata(made: ShardedMetadata) -> Handler:
    """GET /api/models/{id}/safetensors-metadata/{file}"""

    def handler(call: Call) -> Any:
        model = call.model()
        call.check_gate(model)
        revision = call.catalog.revision(model)
        file = call.catalog.file(revision, call.path["file"])
        if not file.path.endswith(".index.json"):
            raise Invalid(f"{file.path} is no index of sharded weights; name a *.safetensors.index.json.", param="file")
        told = made.answer(call.catalog, call.services.storage, revision, file)
        return Response(told, media_type="application/json")

    return handler


def routes() -> list[BaseRoute]:
    metadata = safetensors_metadata(ShardedMetadata())
    return [
        *(plain_route(f"/api/{kind}", listing, repo_type=repo_type) for kind, repo_type in KINDS.items()),
        plain_route("/api/models-tags-by-type", tags_by_type),
        plain_route("/api/datasets-tags-by-type", tags_by_type, repo_type=RepoType.DATASET),
        *api_routes("", {"GET": info}),
        *api_routes("/revision/{rev}", {"GET": info}),
        *api_routes("/leaderboard", {"GET": leaderboard}, kinds=("datasets",)),
        *api_routes("/safetensors-metadata/{file:path}", {"GET": metadata}, kinds=("models",)),
    ]

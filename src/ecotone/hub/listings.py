"""Lists of repositories and single ones (protocol sections 1.3 and 1.4)."""

import re
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from ecotone.catalog import Model, Revision
from ecotone.hub.endpoint import KINDS, Call, Handler, answer, api_routes, plain_route
from ecotone.hub.infos import expanded, repo_info
from ecotone.hub.pages import next_page
from ecotone.hub.weights import ShardedMetadata
from ecotone.vocabulary import DeploymentState, Invalid, ModelKind, RepoType

DEFAULT_LIMIT = 500
FULL_LIMIT = 100
MOST_TAGS = 5000
MOST_LISTED = 1000
PROVIDER = "ecotone"
_OF_CARD = ("cardData", "model-index", "widgetData", "sdk", "description", "models", "datasets", "paperswithcode_id")
_OF_REVISION = frozenset([*_OF_CARD, "config", "safetensors", "baseModels", "siblings"])
_READ_GGUF = ("llama.cpp", "ollama", "lmstudio", "jan", "gpt4all", "koboldcpp", "llamafile", "localai")
APPS = {"vllm": "safetensors", "text-generation-inference": "safetensors", **dict.fromkeys(_READ_GGUF, "gguf")}
"""Which tag a model has that an app can load: the format of its weights. Any other app is looked for as a tag."""
_COUNT = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([KMBT]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def listing(call: Call) -> Any:
    """GET /api/models, /api/datasets, /api/spaces"""
    query = call.query
    expand = query.getlist("expand") + query.getlist("expand[]")
    full = call.flag("full")
    most = FULL_LIMIT if full or "siblings" in expand else MOST_LISTED
    served = _served(call)
    found = call.catalog.models(
        viewer=call.actor,
        search=query.getlist("search"),
        author=query.get("author"),
        filters=_filters(call),
        kind=ModelKind.WEIGHTS,
        stored=True,
        repo_type=call.repo_type,
        gated=_gated(query.get("gated")),
        parameters=_range(query.get("num_parameters")),
        ids=_ids(call, served),
        sort=query.get("sort") or "lastModified",
        descending=(query.get("direction") or "-1") == "-1",
        limit=call.number("limit", min(DEFAULT_LIMIT, most), most) or most,
        cursor=query.get("cursor"),
    )
    deep = full or call.flag("cardData") or call.flag("config") or not _OF_REVISION.isdisjoint(expand)
    heads = call.catalog.heads(found.models) if deep else {}
    used = call.catalog.used_storage(found.models) if full or "usedStorage" in expand else {}
    rows = []
    for model in found.models:
        revision = heads.get(model.key)
        shown = revision is not None and (full or "siblings" in expand)
        files = call.catalog.manifest(revision) if shown and revision is not None else None
        info = repo_info(model, revision, files, used=used.get(model.key), served=model.id in served)
        rows.append(expanded(info, expand))
    headers = {}
    if found.next_cursor is not None:
        headers["link"] = f'<{next_page(call, cursor=found.next_cursor)}>; rel="next"'
    return answer(rows, headers=headers)


def _filters(call: Call) -> list[str]:
    query = call.query
    found = [word for text in query.getlist("filter") for word in text.split(",") if word]
    found += [text for name in ("pipeline_tag", "library") for text in query.getlist(name) if text]
    found += [APPS.get(text.lower(), text) for text in query.getlist("apps") if text]
    for name, prefix in _PREFIXED:
        found += [text if text.startswith(prefix) else prefix + text for text in query.getlist(name) if text]
    return [text.removeprefix("language:").removeprefix("library:") for text in found]


_PREFIXED = (
    ("task_categories", "task_categories:"),
    ("size_categories", "size_categories:"),
    ("language", "language:"),
    ("models", "model:"),
    ("datasets", "dataset:"),
)


def _gated(text: str | None) -> bool | None:
    if not text:
        return None
    if text.lower() not in ("true", "false", "1", "0"):
        raise Invalid(f"gated is {text[:50]!r}; expected true or false.", param="gated")
    return text.lower() in ("true", "1")


def _range(text: str | None) -> tuple[int | None, int | None]:
    """The least and the most of `min:6B,max:128B`."""
    found: dict[str, int] = {}
    for part in (text or "").replace(" ", "").split(","):
        if not part:
            continue
        side, _, amount = part.partition(":")
        count = _COUNT.fullmatch(amount)
        if side not in ("min", "max") or count is None:
            raise Invalid(
                f"num_parameters is {text!r}; expected e.g. min:6B,max:128B, with K, M, B or T.", param="num_parameters"
            )
        found[side] = min(int(float(count[1]) * _UNITS[count[2].upper()]), 2**62)
    return found.get("min"), found.get("max")


def _served(call: Call) -> frozenset[str]:
    """Models that an engine here is ready to answer for."""
    if call.repo_type is not RepoType.MODEL:
        return frozenset()
    deployments = call.services.engines.deployments()
    return frozenset(d.model for d in deployments if d.state is DeploymentState.READY)


def _ids(call: Call, served: frozenset[str]) -> frozenset[str] | None:
    """The models that `inference` and `inference_provider` leave; None when neither is asked for."""
    wanted, provider = call.query.get("inference"), call.query.get("inference_provider")
    if wanted and wanted != "warm":
        raise Invalid(f"inference is {wanted[:50]!r}; expected warm.", param="inference")
    if provider and provider not in ("all", PROVIDER):
        return frozenset()
    return served if wanted or provider else None


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
    used = call.catalog.used_storage([model]).get(model.key)
    served = model.id in _served(call)
    shown = repo_info(
        model, revision, files, blobs=call.flag("blobs"), hashes=hashes, children=children, used=used, served=served
    )
    if call.flag("securityStatus") or "securityRepoStatus" in expand:
        shown["securityRepoStatus"] = {"scansDone": False, "filesWithIssues": []}
    return expanded(shown, expand)


def count_download(call: Call, model: Model) -> None:
    """Count a download once for each caller and while."""
    client = call.request.client.host if call.request.client else ""
    call.catalog.count_download(model, f"{call.actor.name} {client} {call.request.headers.get('user-agent', '')[:100]}")


def tags_by_type(call: Call) -> Any:
    """GET /api/models-tags-by-type and /api/datasets-tags-by-type"""
    groups: dict[str, list[dict[str, str]]] = {}
    for use in call.catalog.tags(viewer=call.actor, repo_type=call.repo_type)[:MOST_TAGS]:
        label = use.tag.partition(":")[2] or use.tag
        groups.setdefault(use.kind, []).append({"id": use.tag, "label": label, "type": use.kind})
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

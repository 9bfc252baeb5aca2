"""The body of a delivery, version 3 of the protocol (section 1.10). Pure."""

from typing import Any

from ecotone.catalog import Event, Model
from ecotone.vocabulary import RepoType

VERSION = 3
_PREFIX = {RepoType.MODEL: "", RepoType.DATASET: "datasets/", RepoType.SPACE: "spaces/"}


def payload(event: Event, webhook_id: str, base: str) -> dict[str, Any]:
    """What a receiver gets.

    Args:
        base: the public address of this hub, without a slash at the end.
    """
    body: dict[str, Any] = {
        "event": {"action": event.action, "scope": event.scope},
        "repo": _repo(event, base),
        "webhook": {"id": webhook_id, "version": VERSION},
        "actor": {"id": event.actor},
    }
    if event.was is not None:
        body["movedTo"] = {"name": event.model.id, "owner": {"id": event.model.namespace}}
    if event.refs:
        body["updatedRefs"] = [{"ref": r.ref, "oldSha": r.old, "newSha": r.new} for r in event.refs]
    if event.config:
        body["updatedConfig"] = event.config
    if event.discussion is not None:
        body["discussion"] = _discussion(event, base)
        if event.comment is not None:
            body["comment"] = _comment(event, base)
    return body


def _repo(event: Event, base: str) -> dict[str, Any]:
    model = event.model
    name = event.was or model.id
    found: dict[str, Any] = {
        "id": f"{model.key:024x}",
        "type": model.repo_type.value,
        "name": name,
        "owner": {"id": name.partition("/")[0]},
        "private": model.private,
        "tags": list(model.tags),
        "url": {"web": _web(model, base), "api": _api(model, base)},
    }
    if event.scope.startswith("repo") and model.head is not None:
        found["headSha"] = found["head_sha"] = model.head
    return found


def _discussion(event: Event, base: str) -> dict[str, Any]:
    told = event.discussion
    assert told is not None
    found: dict[str, Any] = {
        "id": told.id,
        "num": told.num,
        "title": told.title,
        "author": {"id": told.author},
        "isPullRequest": told.is_pull_request,
        "status": told.status,
        "pinned": told.pinned,
        "url": {
            "web": f"{_web(event.model, base)}/discussions/{told.num}",
            "api": f"{_api(event.model, base)}/discussions/{told.num}",
        },
    }
    if told.is_pull_request:
        found["changes"] = {"base": told.base or "refs/heads/main"}
        if told.merge_commit is not None:
            found["changes"]["mergeCommitId"] = told.merge_commit
    return found


def _comment(event: Event, base: str) -> dict[str, Any]:
    told, about = event.comment, event.discussion
    assert told is not None and about is not None
    found: dict[str, Any] = {
        "id": told.id,
        "author": {"id": told.author},
        "hidden": told.hidden,
        "url": {"web": f"{_web(event.model, base)}/discussions/{about.num}#{told.id}"},
    }
    if not told.hidden and told.content is not None:
        found["content"] = told.content
    return found


def _web(model: Model, base: str) -> str:
    return f"{base}/{_PREFIX[model.repo_type]}{model.id}"


def _api(model: Model, base: str) -> str:
    return f"{base}/api/{model.repo_type.value}s/{model.id}"

"""A family as large as those of well-known models, written straight into the tables of a catalogue."""

from datetime import UTC, datetime
from hashlib import sha1
from typing import Any

import sqlalchemy as sa

from ecotone.catalog.models import EdgeRow, ModelRow, RevisionRow
from ecotone.database import Database

RELATIONS = ("finetune", "quantised", "adapter", "merge")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def descend(database: Database, base: str, count: int, *, instrument: str = "Apache-2.0", fan: int = 20) -> list[str]:
    """Put `count` models below a base: the first `fan` of it, each other one of an earlier one. Returns their ids."""
    names = [f"clan{number % 17}/member-{number:04}" for number in range(count)]
    models, revisions, edges = [], [], []
    with database.reading() as session:
        key = (session.scalar(sa.select(sa.func.max(ModelRow.key))) or 0) + 1000
    for number, name in enumerate(names):
        sha = sha1(name.encode()).hexdigest()
        parent = base if number < fan else names[(number - fan) // 4]
        models.append(_model(key + number, name, sha, instrument))
        revisions.append(_revision(key + number, sha, instrument))
        edge: dict[str, Any] = {"relation": RELATIONS[number % 4], "status": "declared", "asserted_by": "card"}
        edge |= {
            "parent": parent,
            "parent_folded": parent.casefold(),
            "parent_revision": None,
            "evidence": "base_model",
        }
        edges.append({"model_key": key + number, "sha": sha} | edge)
    with database.writing() as session:
        session.execute(sa.insert(ModelRow), models)
        session.execute(sa.insert(RevisionRow), revisions)
        session.execute(sa.insert(EdgeRow), edges)
    return names


def _model(key: int, name: str, sha: str, instrument: str) -> dict[str, Any]:
    namespace, _, short = name.partition("/")
    of_name = {"namespace": namespace, "name": short, "folded": name, "searched": name, "title": short}
    empty: dict[str, Any] = {"gated": None, "tags": [], "pipeline_tag": None, "library": None, "tagged": ""}
    times = {"created": NOW, "updated": NOW, "created_by": "clan"}
    licence = {"licence": instrument.lower(), "instruments": [instrument]}
    kind = {"key": key, "repo_type": "model", "kind": "weights", "private": False, "head": sha, "buried": 0}
    return {**of_name, **empty, **times, **licence, **kind, "downloads": 0, "likes": 0, "small_bytes": 0}


def _revision(key: int, sha: str, instrument: str) -> dict[str, Any]:
    lists: dict[str, Any] = {"parents": [], "findings": [], "detected": [], "card": {}, "config": {}, "weights": {}}
    texts = {"title": "Add", "message": "Add", "author": "clan", "card_text": "", "fingerprint": sha, "tree": sha}
    licence = {"instruments": [instrument], "declared_licence": instrument.lower()}
    return {"model_key": key, "sha": sha, "date": NOW, "size": 0, "manifest": b"\x80", **lists, **texts, **licence}

"""What a revision's files say of it: card, licence, lineage, configuration, totals of its weights.

Everything is bounded. What cannot be read becomes a finding, shown with the revision; only what would cost too much to
read, or leads out of the revision, is refused.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ecotone.catalog import BY_WEIGHTS, BadCard, File, LineageEdge, Revision
from ecotone.catalog.cards import MAX_CARD_TEXT, MAX_FRONT_MATTER, parse
from ecotone.licences import KnowledgeBase, identify
from ecotone.licences.detection import Detection, conclude
from ecotone.licences.providers import terms_of_outputs
from ecotone.lineage import BrokenWeights, DeclaredEdge, TooManyTensors, declared_edges, parameters, read_safetensors
from ecotone.lineage.declared import UNREADABLE
from ecotone.publishing.indexes import check_indexes
from ecotone.publishing.licence_texts import detections, told
from ecotone.storage import GONE, Content, Storage
from ecotone.vocabulary import EdgeStatus, Relation, RepoType, TooLarge

CARD_EVIDENCE = "card"
_INFERRED = " (relation inferred)"
MOST_CONFIG = 1024 * 1024
MOST_EDGES = 200
MOST_TENSORS_READ = 400_000
_CONFIG_FIELDS = (
    "architectures",
    "model_type",
    "auto_map",
    "quantization_config",
    "max_position_embeddings",
    "hidden_size",
    "num_hidden_layers",
    "vocab_size",
    "torch_dtype",
    "dtype",
)


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. `declared_licence` is the card's, `detected` what licence files hold, `instruments` what is
    concluded from both. `edges` are those the card declares and those asserted by others."""

    card: dict[str, Any]
    card_text: str
    config: dict[str, Any]
    weights: dict[str, Any]
    instruments: tuple[str, ...]
    declared_licence: str | None
    detected: tuple[str, ...]
    edges: tuple[LineageEdge, ...]
    findings: tuple[str, ...]


def read_card(
    content: str, knowledge: KnowledgeBase, *, model_id: str, adapter: Mapping[str, Any] | None = None
) -> Contents:
    """What a card alone says.

    Raises:
        BadCard: when its front matter cannot be read.
    """
    card, text = parse(content)
    return _from_card(card, text, knowledge, model_id, adapter, {}, {}, [])


def read_contents(
    files: Mapping[str, File],
    before: Mapping[str, File],
    base: Revision,
    storage: Storage,
    knowledge: KnowledgeBase,
    *,
    model_id: str,
    kept_edges: Iterable[LineageEdge] = (),
) -> Contents:
    """What the files of a revision say; weights unchanged since `base` are not read again.

    Raises:
        TooLarge: weights have more tensors than are read.
        Invalid: an index of weights leads out of its folder.
    """
    findings: list[str] = []
    card: dict[str, Any] = {}
    text = ""
    files = {path: file for path, file in files.items() if file.content.kind != GONE}
    readme = files.get("README.md")
    if readme is not None:
        whole = _text(storage, readme.content, MAX_FRONT_MATTER + MAX_CARD_TEXT)
        try:
            card, text = parse(whole)
        except BadCard as error:
            findings.append(error.message)
            text = whole[:MAX_CARD_TEXT].replace("\0", "\ufffd")
    config = {k: v for k, v in _json(storage, files.get("config.json")).items() if k in _CONFIG_FIELDS}
    adapter = _json(storage, files["adapter_config.json"]) if "adapter_config.json" in files else None
    weights = _weights(files, before, base.weights, storage, findings)
    if base.repo_type is RepoType.MODEL:
        changed = {p for p, f in files.items() if p not in before or before[p].content.git_oid != f.content.git_oid}
        findings += check_indexes(files, changed, storage)
    texts = detections(files, storage, knowledge)
    read = _from_card(card, text, knowledge, model_id, adapter, config, weights, findings, texts)
    carried = [edge for edge in base.edges if not edge.evidence.startswith(CARD_EVIDENCE)]
    everyone = [*carried, *kept_edges]
    known = {e.identity: e for e in everyone if e.asserted_by != BY_WEIGHTS}  # a card may own up to what weights say
    edges = {e.identity: e for e in [*everyone, *read.edges]} | known
    return msgspec.structs.replace(read, edges=tuple(_bounded(list(edges.values()), model_id)))


def contents_of(revision: Revision, *, extra: Iterable[LineageEdge] = ()) -> Contents:
    """What a revision's files are known to say, for a new revision with the same files."""
    return Contents(
        card=revision.card,
        card_text=revision.card_text,
        config=revision.config,
        weights=revision.weights,
        instruments=revision.instruments,
        declared_licence=revision.declared_licence,
        detected=revision.detected,
        edges=(*extra, *revision.edges)[:MOST_EDGES],
        findings=revision.findings,
    )


def _from_card(
    card: dict[str, Any],
    text: str,
    knowledge: KnowledgeBase,
    model_id: str,
    adapter: Mapping[str, Any] | None,
    config: dict[str, Any],
    weights: dict[str, Any],
    findings: list[str],
    texts: Sequence[Detection] = (),
) -> Contents:
    identified = identify(knowledge, card, date=datetime.datetime.now(datetime.UTC).date())
    conclusion = conclude(knowledge, identified, texts)
    findings += told(conclusion)
    if identified.declared and "unknown" in conclusion.concluded and not conclusion.conflicts:
        findings.append(
            f"The licence {identified.declared!r} is not in the knowledge base, so what may be done stays unknown; "
            "`ecotone licence list` shows what it holds."
        )
    edges = [
        LineageEdge(
            child=model_id,
            parent=edge.parent,
            parent_revision=edge.revision,
            relation=edge.relation,
            status=EdgeStatus.DECLARED,
            evidence=f"{CARD_EVIDENCE}: {edge.field}{_INFERRED if edge.inferred else ''}",
            **_made(edge, knowledge),
        )
        for edge in declared_edges(card, adapter_config=adapter)
        if edge.parent.casefold() != model_id.casefold()
    ]
    return Contents(
        card=card,
        card_text=text,
        config=config,
        weights=weights,
        instruments=conclusion.concluded,
        declared_licence=(identified.declared or "")[:200] or None,
        detected=conclusion.detected,
        edges=tuple(_bounded(edges, model_id)),
        findings=tuple(findings),
    )


def _made(edge: DeclaredEdge, knowledge: KnowledgeBase) -> dict[str, Any]:
    """Terms and days of a parent that made outputs."""
    told = edge.generator
    if told is None:
        return {}
    found: dict[str, Any] = {"made_from": told.since, "made_until": told.until}
    if told.provider is not None or told.terms is not None:
        found["terms"] = terms_of_outputs(
            knowledge, provider=told.provider, terms=told.terms, since=told.since, until=told.until
        )
    return found


def _bounded(edges: list[LineageEdge], model_id: str) -> list[LineageEdge]:
    """At most as many as are kept; those left out stand as one parent that nobody knows."""
    if len(edges) <= MOST_EDGES:
        return edges
    made = any(edge.relation is Relation.GENERATED_BY for edge in edges)
    relation = Relation.GENERATED_BY if made else Relation.FINETUNE
    rest = LineageEdge(child=model_id, parent=UNREADABLE, relation=relation, evidence=CARD_EVIDENCE)
    return [rest, *edges[: MOST_EDGES - 1]]


def _weights(
    files: Mapping[str, File],
    before: Mapping[str, File],
    known: Mapping[str, Any],
    storage: Storage,
    findings: list[str],
) -> dict[str, Any]:
    """Parameters by data type, of each safetensors file and in all."""
    held: Mapping[str, dict[str, int]] = known.get("files") or {}
    found: dict[str, dict[str, int]] = {}
    read: dict[str, dict[str, int]] = {}
    tensors = 0
    for path, file in files.items():
        if not path.endswith(".safetensors"):
            continue
        same = path in before and before[path].content.git_oid == file.content.git_oid
        if same and path in held:
            found[path] = held[path]
            continue
        if file.content.git_oid not in read:
            try:
                weights = read_safetensors(map(bytes, storage.read(file.content)), file.content.size)
            except TooManyTensors as error:
                raise TooLarge(f"{path} is refused: {error.message}", param="path") from None
            except BrokenWeights as error:
                findings.append(f"{path} is not a whole safetensors file: {error.message}")
                continue
            tensors += len(weights.tensors)
            if tensors > MOST_TENSORS_READ:
                raise TooLarge(
                    f"The weights of this commit have more than {MOST_TENSORS_READ} tensors, the most that are read "
                    "at a time; commit the files in several parts."
                )
            read[file.content.git_oid] = dict(parameters([weights]).by_dtype)
        found[path] = read[file.content.git_oid]
    if not found:
        return {}
    totals: dict[str, int] = {}
    for counts in found.values():
        for dtype, number in counts.items():
            totals[dtype] = totals.get(dtype, 0) + number
    return {"parameters": totals, "total": sum(totals.values()), "files": found}


def _text(storage: Storage, content: Content, most: int) -> str:
    return b"".join(storage.read(content, 0, min(content.size, most))).decode("utf-8", "replace")


def _json(storage: Storage, file: File | None) -> dict[str, Any]:
    """A small JSON object of a revision; empty when it is absent, too large or something else."""
    if file is None or file.content.size > MOST_CONFIG:
        return {}
    try:
        found = msgspec.json.decode(b"".join(storage.read(file.content)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}

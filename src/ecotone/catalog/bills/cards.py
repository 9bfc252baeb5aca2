"""Facts of a model from its card and configuration: the card's own words, shortened; nothing is inferred."""

import re
from collections.abc import Mapping
from typing import Any

from ecotone.catalog.cards import texts
from ecotone.licences.bom.facts import Metric, ModelFacts, plain

_MOST_METRICS = 200
_LONGEST = 1000
_HEADING = re.compile(r"^#{1,6}[ \t]+(.{1,120}?)[ \t#]*$", re.M)
_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)[ \t]*$", re.M | re.S)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
# headings of Hugging Face's template for cards, and what people write in their place
_SECTIONS = (
    ("limitations", re.compile(r"limitation|out[- ]of[- ]scope|known issues", re.I)),
    ("risks", re.compile(r"bias|risk|ethic|safety|harm", re.I)),
    ("users", re.compile(r"intended users|audience", re.I)),
    ("uses", re.compile(r"intended use|^uses?$|direct use|use cases?|downstream use", re.I)),
)
_WEIGHTS = re.compile(r".+\.(?:safetensors|gguf|bin|pt|pth|ckpt|onnx|h5|msgpack|npz|tflite)", re.I)
_NO_WEIGHTS = re.compile(r"(?:training_args|optimizer|scheduler|scaler|rng_state.*|spiece|tokenizer)\.[a-z0-9]+", re.I)
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")


def model_facts(
    card: Mapping[str, Any], text: str, config: Mapping[str, Any], weights: Mapping[str, Any] | None = None
) -> ModelFacts:
    """Facts of a model.

    Args:
        card: front matter; `text`: what stands below it.
        config: its `config.json`.
        weights: totals of its weight files' headers, `{"total": n, "parameters": {dtype: count}}`.
    """
    sections = sections_of(text)
    counts = (weights or {}).get("parameters")
    total = (weights or {}).get("total")
    return ModelFacts(
        task=_first(card.get("pipeline_tag")),
        family=_first(config.get("model_type")),
        architecture=_first(config.get("architectures")),
        parameters=total if isinstance(total, int) and total > 0 else None,
        parameters_by_type={plain(k, 20): v for k, v in counts.items() if isinstance(v, int)}
        if isinstance(counts, Mapping)
        else {},
        context=next((n for n in map(config.get, _LENGTHS) if type(n) is int and 0 < n < 1 << 40), None),
        library=_first(card.get("library_name")),
        languages=tuple(plain(t, 40) for t in texts(card.get("language"), 50)),
        metrics=metrics_of(card),
        **{name: (sections[name],) if name in sections else () for name, _ in _SECTIONS},
    )


def sections_of(text: str) -> dict[str, str]:
    """Sections of a card that say for whom and what it is, and what it cannot: their first words as plain text."""
    text = _FENCE.sub("", text[: 512 * 1024])
    headings = list(_HEADING.finditer(text))
    found: dict[str, str] = {}
    for number, heading in enumerate(headings):
        name = next((n for n, pattern in _SECTIONS if pattern.search(heading[1])), None)
        end = headings[number + 1].start() if number + 1 < len(headings) else len(text)
        body = plain(_COMMENT.sub("", text[heading.end() : end]), _LONGEST)
        if (
            name is not None
            and body
            and body.casefold() not in ("[more information needed]", "more information needed")
        ):
            found.setdefault(name, body)
    return found


def metrics_of(card: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Figures that the card's `model-index` states."""
    found = []
    for entry in _list(card.get("model-index")):
        for result in _list(entry.get("results")) if isinstance(entry, dict) else []:
            if not isinstance(result, dict):
                continue
            data = result.get("dataset") if isinstance(result.get("dataset"), dict) else {}
            told = [data.get(k) for k in ("name", "split")] if isinstance(data, dict) else []
            where = " ".join(plain(t, 100) for t in told if isinstance(t, str))
            for metric in _list(result.get("metrics")):
                if isinstance(metric, dict) and isinstance(metric.get("value"), (int, float, str)):
                    kind = plain(metric.get("name") or metric.get("type") or "metric", 100)
                    found.append(Metric(kind, plain(metric["value"], 100), where))
    return tuple(found[:_MOST_METRICS])


def measured(suite: str, result: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Figures that an audit measured: those of each of its tests, by the test's id. Settings of the suite are none."""
    found = []
    for name, value in result.items():
        rows = [(str(name), value)] if isinstance(value, Mapping) else []
        if isinstance(value, list):
            told = [r for r in value[:_MOST_METRICS] if isinstance(r, Mapping)]
            rows = [(str(row.get("id") or row.get("name") or name), row) for row in told]
        for row, figures in rows:
            for part, figure in figures.items():
                if isinstance(figure, (int, float)) and not isinstance(figure, bool):
                    kind = plain(f"{row} {part}", 100)
                    found.append(Metric(kind, plain(figure, 100), plain(f"audit {suite}", 100)))
    return tuple(found[:_MOST_METRICS])


def role_of(path: str, is_licence: bool) -> str:
    """What a file is for: weights, configuration, tokenizer, card, licence or other."""
    name = path.rpartition("/")[2].lower()
    if is_licence:
        return "licence"
    if _WEIGHTS.fullmatch(name) and not _NO_WEIGHTS.fullmatch(name):
        return "weights"
    if path == "README.md":
        return "card"
    if name.startswith(("tokenizer", "vocab", "merges", "special_tokens", "spiece", "sentencepiece")):
        return "tokenizer"
    return "configuration" if name.endswith("config.json") or name.endswith(".index.json") else "other"


def _first(value: Any) -> str | None:
    return next((plain(t, 200) for t in texts(value)), None) or None


def _list(value: Any) -> list[Any]:
    return value[:_MOST_METRICS] if isinstance(value, list) else []

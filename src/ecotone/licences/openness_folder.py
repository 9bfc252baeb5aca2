"""Components of the Model Openness Framework in a hub folder: files, card fields and links, each with its evidence.

What lies in the folder is under the folder's licence. What is only named (a data set, a paper behind a link) has its
own, which counts as unknown until somebody tells it. Nothing is read but names of files and the card.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.openness import PAPER, REPORT, Found, Openness, framework, rate

_MOST_FILES = 10_000
_MOST_NAMED = 20
_MOST_EVIDENCE = 5
_LEAST_CARD = 40  # words
_LONGEST_TEXT = 512 * 1024
_PAPERS = re.compile(
    r"https?://(?:(?:www\.)?arxiv\.org/(?:abs|pdf)/|doi\.org/|(?:www\.)?aclanthology\.org/|"
    r"(?:www\.)?openreview\.net/|(?:huggingface\.co|hf\.co)/papers/)[^\s)\]>\"']{1,120}",
    re.I,
)
_REPORTS = re.compile(r"\[[^\]\n]{0,80}technical report[^\]\n]{0,80}\]\((https?://[^)\s]{1,200})\)", re.I)


def rate_folder(
    model: str,
    paths: Iterable[str],
    card: Mapping[str, Any],
    card_text: str,
    config: Mapping[str, Any],
    instruments: Iterable[str],
    knowledge: KnowledgeBase,
    *,
    others: Mapping[str, str] | None = None,
) -> Openness:
    """The class of a model of which only its hub folder is known.

    Args:
        model: its name.
        paths: of its files, relative, with `/`.
        card: front matter of its card; `card_text`: what stands below.
        config: its `config.json`; {} where there is none.
        instruments: concluded licences of the folder, as ids of the knowledge base.
        knowledge: the entries.
        others: licences (SPDX ids) of data sets that the card names, where they are known.
    """
    found: dict[str, Found] = {}
    for one in (*_files(list(paths)[:_MOST_FILES]), *_told(card, card_text, config), *_named(card, card_text, others)):
        found.setdefault(one.name, one)
    whole = licence_of(knowledge, instruments)
    return rate(model, found.values(), {"distribution": whole} if whole else {})


def licence_of(knowledge: KnowledgeBase, instruments: Iterable[str]) -> str | None:
    """One name for concluded instruments: that of the least open one; None when nothing is known."""
    told = list(instruments)
    ids = [i for i in told if i not in ("none", "unknown")]
    if not ids or len(ids) < len(told):
        return None
    names = [knowledge.entries[i].expression if i in knowledge.entries else i for i in ids]
    return next((name for name in names if not framework().is_open(name)), names[0])


def _files(paths: list[str]) -> list[Found]:
    found = []
    for component in framework().components:
        seen = sorted(p for p in paths if any(_matches(p, pattern) for pattern in component.files))
        if seen:
            found.append(Found(name=component.name, evidence=tuple(f"file {p}" for p in seen[:_MOST_EVIDENCE])))
    return found


def _matches(path: str, pattern: str) -> bool:
    """Whether a file is meant: `*` stays within its folder, and a pattern without `/` means files at the root."""
    return path.count("/") == pattern.count("/") and fnmatchcase(path.casefold(), pattern.casefold())


def _told(card: Mapping[str, Any], text: str, config: Mapping[str, Any]) -> list[Found]:
    """What card and configuration themselves are or hold."""
    found = []
    built = [a for a in _texts(config.get("architectures")) if a.isidentifier()]
    if built:
        library = next(iter(_texts(card.get("library_name"))), "transformers")
        evidence = (f"config.json architectures: {built[0]}, code of the library {library}",)
        code = framework().libraries.get(library.casefold())
        found.append(Found(name="Model architecture", licence=code, evidence=evidence, outside=True))
    words = len(text[:_LONGEST_TEXT].split())
    if words >= _LEAST_CARD:
        found.append(Found(name="Model card", evidence=(f"README.md, {words} words below the front matter",)))
    if _results(card):
        found.append(Found(name="Evaluation results", evidence=("README.md field model-index",)))
    if any(isinstance(w, dict) and w.get("output") for w in _list(card.get("widget"))):
        found.append(Found(name="Sample model outputs", evidence=("README.md field widget",)))
    return found


def _named(card: Mapping[str, Any], text: str, others: Mapping[str, str] | None) -> list[Found]:
    """What is elsewhere and only named here."""
    found = []
    trained = _texts(card.get("datasets"))
    if trained:
        licences = {(others or {}).get(d) for d in trained}
        known = next(iter(licences)) if len(licences) == 1 else None
        evidence = tuple(f"README.md field datasets: {d}" for d in trained[:_MOST_EVIDENCE])
        found.append(Found(name="Datasets", licence=known, evidence=evidence, outside=True))
    measured = [d for d in _results(card) if d]
    if measured:
        evidence = tuple(f"README.md field model-index: {d}" for d in measured[:_MOST_EVIDENCE])
        found.append(Found(name="Evaluation data", evidence=evidence, outside=True))
    reports = _REPORTS.findall(text[:_LONGEST_TEXT])
    if reports:
        found.append(Found(name=REPORT, evidence=(f"README.md link {reports[0]}",), outside=True))
    papers = [m.rstrip(".,;") for m in _PAPERS.findall(text[:_LONGEST_TEXT])]
    papers += [f"arXiv {t[6:]}" for t in _texts(card.get("tags")) if t.lower().startswith("arxiv:")]
    if papers:
        evidence = tuple(f"README.md link {p}" for p in dict.fromkeys(papers))[:_MOST_EVIDENCE]
        found.append(Found(name=PAPER, evidence=evidence, outside=True))
    return found


def _results(card: Mapping[str, Any]) -> list[str]:
    """Data sets of the results in `model-index`, "" where a result names none."""
    found = []
    for entry in _list(card.get("model-index")):
        for result in _list(entry.get("results")) if isinstance(entry, dict) else []:
            if isinstance(result, dict) and _list(result.get("metrics")):
                data = result.get("dataset")
                name = data.get("name") or data.get("type") if isinstance(data, dict) else None
                found.append(name.strip()[:120] if isinstance(name, str) else "")
    return list(dict.fromkeys(found))[:_MOST_NAMED]


def _list(value: Any) -> list[Any]:
    return value[:_MOST_NAMED] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [i.strip()[:120] for i in items[:_MOST_NAMED] if isinstance(i, str) and i.strip()]

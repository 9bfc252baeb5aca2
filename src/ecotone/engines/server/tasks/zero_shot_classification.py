"""zero-shot-classification: a model of natural language inference tells how far a text entails a label's sentence."""

import re
from collections.abc import Sequence
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.tasks.scores import softmax
from ecotone.engines.server.tasks.work import Asked, Work, bounded, flag, known, strings, texts_of, wrong

_LIST_SINCE = (1, 2)  # huggingface_hub before it reads one object, later ones a list
_LONGEST_TEMPLATE = 4096
_TEMPLATE = "This example is {}."


def entailment(labels: Sequence[str]) -> int | None:
    """The place of the label that says that a sentence follows."""
    return next((i for i, label in enumerate(labels) if label.lower().startswith("entail")), None)


def prepare(asked: Asked, model: Known) -> Work:
    """`[{label, score}]`, or `{sequence, labels, scores}` for clients of huggingface_hub before 1.2."""
    known(asked, "candidate_labels", "multi_label", "hypothesis_template", "truncate")
    yes = entailment(model.labels)
    if yes is None:
        raise RequestError(
            f"This model has no label for entailment among {list(model.labels)[:8]}; zero-shot classification needs a "
            "model of natural language inference.",
            code="unsupported_task",
        )
    texts, listed = texts_of(asked.inputs)
    labels = _labels(asked)
    bounded(len(texts) * len(labels), "candidate_labels")
    template = asked.parameters.get("hypothesis_template", _TEMPLATE)
    hypotheses = [_hypothesis(template, label) for label in labels]
    several = flag(asked.parameters, "multi_label") or len(labels) == 1
    cut = flag(asked.parameters, "truncate", model.cuts)
    old = _reads_an_object(asked.agent)

    def answer(results: Sequence[Found]) -> Any:
        rows = [numpy.stack(results[i : i + len(labels)]) for i in range(0, len(results), len(labels))]
        answers = [
            _ordered(text, _scores(row, yes, several), labels, old) for text, row in zip(texts, rows, strict=True)
        ]
        return answers if listed else answers[0]

    encodings = [model.sequences.pair(text, hypothesis, cut=cut) for text in texts for hypothesis in hypotheses]
    return Work([model.sequences.text(one, Head.LABELS) for one in encodings], answer)


def _labels(asked: Asked) -> list[str]:
    given = asked.parameters.get("candidate_labels", asked.body.get("candidate_labels"))
    if isinstance(given, str):
        given = [label.strip() for label in given.split(",") if label.strip()]
    return strings({"candidate_labels": given}, "candidate_labels") or wrong("candidate_labels", "a list of strings")


def _hypothesis(template: Any, label: str) -> str:
    if not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE or template.count("{}") != 1:
        expected = f"a string of at most {_LONGEST_TEMPLATE} characters with {{}} where the label goes, once"
        wrong("hypothesis_template", expected)
    return template.replace("{}", label)


def _scores(logits: Found, yes: int, several: bool) -> Found:
    if not several:
        return softmax(logits[:, yes])
    no = -1 if yes == 0 else 0
    found: Found = softmax(logits[:, [no, yes]])[:, 1]
    return found


def _ordered(text: str, scores: Found, labels: Sequence[str], old: bool) -> Any:
    order = numpy.argsort(-scores, kind="stable")
    if old:
        return {"sequence": text, "labels": [labels[i] for i in order], "scores": [float(scores[i]) for i in order]}
    return [{"label": labels[i], "score": float(scores[i])} for i in order]


def _reads_an_object(agent: str) -> bool:
    version = re.search(r"hf_hub/(\d+)\.(\d+)", agent)
    return bool(version) and (int(version[1]), int(version[2])) < _LIST_SINCE  # type: ignore[index]

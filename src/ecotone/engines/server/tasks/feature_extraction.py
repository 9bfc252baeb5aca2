"""feature-extraction: a vector for each text, by the model's own pooling. Options stand at the body's root."""

from collections.abc import Sequence
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.tasks.work import Asked, Work, choice, flag, known, texts_of, wrong

_OPTIONS = ("normalize", "prompt_name", "truncate", "truncation_direction")


def prepare(asked: Asked, model: Known) -> Work:
    """`[[width]]`, one row for each text, also for a single one."""
    known(asked, *_OPTIONS)
    given = {name: asked.body.get(name, asked.parameters.get(name)) for name in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    texts, _ = texts_of(asked.inputs)
    cut = flag(options, "truncate", model.cuts)
    left = choice(options, "truncation_direction", ("left", "right"), "right") == "left"
    normalise = options.get("normalize")
    if normalise is not None:
        flag(options, "normalize")
    prompt = _prompt(options, model)
    lower = model.pooling.lower_case
    head = Head.VECTOR if normalise is None else Head.POOLED

    def answer(results: Sequence[Found]) -> Any:
        return [(one / max(float(numpy.linalg.norm(one)), 1e-12) if normalise else one).tolist() for one in results]

    encodings = [
        model.sequences.single((prompt + text).lower() if lower else prompt + text, cut=cut, left=left)
        for text in texts
    ]
    return Work([model.sequences.text(one, head) for one in encodings], answer)


def _prompt(options: dict[str, Any], model: Known) -> str:
    name = options.get("prompt_name")
    if name is None:
        return model.pooling.prompt
    if not isinstance(name, str) or name not in model.pooling.prompts:
        wrong("prompt_name", f"one of the model's prompts ({', '.join(model.pooling.prompts) or 'it has none'})")
    return model.pooling.prompts[name]

"""Chat templates: the text is transformers' own, and a hostile template costs its model's callers, nobody else."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.rendering import Renderer

MESSAGES = [
    {"role": "system", "content": "Be <b>brief</b> & é."},
    {"role": "user", "content": "What's up?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, "é"]}}}]},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

Make = Callable[[str], Renderer]


@pytest.fixture
def renderer() -> Iterator[Make]:
    opened: list[Renderer] = []

    def make(template: str) -> Renderer:
        opened.append(Renderer(template, {"bos_token": "<s>", "eos_token": "</s>"}, 20_000, cpu_seconds=0.6))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{% for m in messages %}\n  {% if not loop.first %} {{ m.role }}: {{ m['content'] | trim }}"
        "{% endif %}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}"
        "{{ m | tojson(indent=2) }}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content | length %}{% endfor %}"
        "{{ ns.n }}{{ dict(a=1) }}{{ tools | tojson }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% endfor %}",
        "{% if m is undefined %}none{% endif %}{{ strftime_now('%Y') | length }}",
    ],
)
def test_the_text_is_transformers_own(template: str, renderer: Make, tiny: Any, made: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made["llama"])
    tokenizer.eos_token, tokenizer.bos_token = "</s>", "<s>"
    wanted = tokenizer.apply_chat_template(
        MESSAGES, tools=TOOLS, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    given = {"messages": MESSAGES, "tools": TOOLS, "documents": None, "add_generation_prompt": True}
    assert renderer(template).render(given) == wanted


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1] }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ messages.append(1) }}",
        "{% for i in range(1000000) %}x{% endfor %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ 'a' * 50000000 }}",
        "{{ 'a' * 5000000000 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'abc' }}{% endfor %}",
        "{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 10 ** (10 ** 8) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{" + "{ 1 }" * 200_000,
        "{% for %}",
    ],
)
def test_a_hostile_template_is_stopped_and_the_next_text_is_rendered(template: str, renderer: Make) -> None:
    hostile, good = renderer(template), renderer("{{ messages[0].content }}")
    took = []
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(RequestError, match="chat template") as refused:
            hostile.render({"messages": MESSAGES, "on": True})
        assert refused.value.status == 400 and len(refused.value.message) < 500
        took.append(time.monotonic() - began)
    assert min(took) < 19, "twenty seconds each: only the clock stopped it"
    assert good.render({"messages": MESSAGES}) == MESSAGES[0]["content"]


def test_a_template_that_went_wrong_once_is_rendered_again(renderer: Make) -> None:
    found = renderer("{% if bad %}{{ 'a' * 9000000000 }}{% for i in range(9**9) %}{% endfor %}{% endif %}fine")
    with pytest.raises(RequestError):
        found.render({"bad": True})
    assert found.render({"bad": False}) == "fine"

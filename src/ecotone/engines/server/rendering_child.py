"""Renders one model's chat template, in a process of its own that may be lost at any time. Run as a file.

A template is a program that came with a model. Jinja's sandbox keeps it from touching anything, not from filling the
memory or looping for hours; the limits that this process sets itself do. The environment is the one in which
transformers renders (its `chat_template_utils`), so that texts are the same.

Lines of JSON: first `{template, specials, most_letters, cpu_seconds, memory_bytes}`, then for each rendering the
template's variables; for each one line comes back: `{"text"}`, or `{"error"}` with what the template said.
"""

import datetime
import json
import resource
import signal
import sys
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says, for training; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own way to name tags

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """`dict(...)` without the class itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """A namespace that keeps no names with an underscore in front."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} is not kept in a namespace")


def _refuse(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(str(message))


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: Any = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> jinja2.Environment:
    found = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    found.filters["tojson"] = _tojson
    found.globals |= {
        "raise_exception": _refuse,
        "strftime_now": lambda form: datetime.datetime.now().strftime(form),
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return found


def _rendered(template: jinja2.Template, variables: dict[str, Any], most: int) -> str:
    parts: list[str] = []
    letters = 0
    for part in template.generate(**variables):
        letters += len(part)
        if letters > most:
            raise jinja2.exceptions.TemplateError(f"its text is longer than {most} characters")
        parts.append(part)
    return "".join(parts)


def main() -> None:
    spec = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (spec["memory_bytes"],) * 2)
    template = None
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, spec["cpu_seconds"])  # its signal ends the process whatever it is doing
        try:
            template = template or _environment().from_string(spec["template"])
            answer = {"text": _rendered(template, spec["specials"] | json.loads(line), spec["most_letters"])}
        except MemoryError:
            answer = {"error": "it needs too much memory"}
        except Exception as error:
            answer = {"error": str(error)[:300] or type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Text that is put into a user's own files and found again: sections between markers, lines of a NOTICE, YAML fields.

Joining twice changes nothing. What stands outside of the markers is never touched.
"""

import json
import re
from collections.abc import Iterable, Mapping

import yaml

BEGIN, END = "<!-- ecotone duties: begin -->", "<!-- ecotone duties: end -->"
_SECTION = re.compile(rf"[ \t]*{re.escape(BEGIN)}.*?{re.escape(END)}[ \t]*\n?", re.S)
_FRONT = re.compile(r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)(^---[ \t]*(?:\r?\n|\Z))", re.S | re.M)
_FIELD = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)[ \t]*:", re.M)
_NOISE = re.compile(r"[\s*_`>#|\\]+")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")


def section(content: str, body: str) -> str:
    """The content with this section, in the place of the one before or at the end."""
    made = f"{BEGIN}\n{body.strip()}\n{END}\n"
    if _SECTION.search(content):
        first = True

        def once(_: re.Match[str]) -> str:
            nonlocal first
            now, first = made if first else "", False
            return now

        return _SECTION.sub(once, content)
    return f"{content.rstrip()}\n\n{made}" if content.strip() else made


def noticed(content: str, paragraphs: Iterable[str]) -> str:
    """A NOTICE with these paragraphs; those that it says already, however wrapped, are not said again."""
    found = content.rstrip()
    for paragraph in paragraphs:
        if not says(found, paragraph):
            found = f"{found}\n\n{paragraph.strip()}" if found else paragraph.strip()
    return found + "\n" if found else ""


def says(content: str, wanted: str) -> bool:
    """Whether the words stand in the content, whatever the white space and the marks of Markdown between them."""
    return plain(wanted) in plain(content)


def plain(text: str) -> str:
    return f" {_NOISE.sub(' ', text).strip()} "


def fields_of(content: str) -> frozenset[str]:
    """Names of the top-level fields of the front matter."""
    front = _FRONT.match(content)
    return frozenset(_FIELD.findall(front[2])) if front else frozenset()


def with_fields(content: str, fields: Mapping[str, str | tuple[str, ...]]) -> str:
    """The card with these YAML fields; one that it has already stays as it is."""
    present = fields_of(content)
    lines = [line for name, value in fields.items() if name not in present for line in _yaml(name, value)]
    if not lines:
        return content
    added = "".join(f"{line}\n" for line in lines)
    front = _FRONT.match(content)
    if front is None:
        return f"---\n{added}---\n{content}"
    if not _is_mapping(front[2] + added):  # fields in another style, or a card that is broken already
        return content
    return front[1] + front[2] + added + content[front.start(3) :]


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(yaml.safe_load(text), dict)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False


def _yaml(name: str, value: str | tuple[str, ...]) -> list[str]:
    if isinstance(value, str):
        return [f"{name}: {_scalar(value)}"]
    return [f"{name}:", *(f"- {_scalar(v)}" for v in value)]


def _scalar(value: str) -> str:
    return value if _PLAIN.fullmatch(value) and not value.replace(".", "").isdigit() else json.dumps(value)

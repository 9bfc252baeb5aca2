"""Training data: JSONL chat rows, checked whole before anything starts. Pure; knows no model and no tokenizer.

A row is `{"messages": [{"role": ..., "content": ...}, ...]}` in UTF-8 on one line. What could be trained on is told by
roles alone: the assistant's turns. What a template makes of a row is checked where the template is, in the child.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

ROLES = ("system", "user", "assistant", "tool")
LONGEST_LINE = 1024 * 1024
MOST_ROWS = 1_000_000
MOST_MESSAGES = 1_000
MOST_SHOWN = 20
FEW_ROWS = 10

_ROW_KEYS = {"messages"}
_MESSAGE_KEYS = {"role", "content", "name", "weight"}


class BrokenRow(msgspec.Struct, frozen=True):
    """A row that cannot be used. `line` counts from 1, as editors do; the reason says what was expected."""

    line: int
    reason: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of rows holds; `broken` are the first that cannot be used, `more` counts the rest."""

    rows: int
    sha256: str
    size: int
    broken: tuple[BrokenRow, ...] = ()
    more: int = 0
    warnings: tuple[str, ...] = ()


def check(data: bytes) -> Checked:
    """Look at every row.

    Returns:
        How many rows there are and which are broken; an empty file is one broken row at line 1.
    """
    rows, more = 0, 0
    broken: list[BrokenRow] = []
    seen: set[bytes] = set()
    repeats = 0
    for number, line in lines(data):
        rows += 1
        reason = "there are too many rows; split the file" if rows > MOST_ROWS else _broken(line)
        if reason is not None:
            more += len(broken) >= MOST_SHOWN
            if len(broken) < MOST_SHOWN:
                broken.append(BrokenRow(number, reason))
        if rows > MOST_ROWS:
            break
        mark = hashlib.blake2b(line, digest_size=12).digest()
        repeats += mark in seen
        seen.add(mark)
    if not rows:
        broken.append(BrokenRow(1, 'the file is empty; expected one row a line: {"messages": [...]}'))
    return Checked(
        rows=rows,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        broken=tuple(broken),
        more=more,
        warnings=_warnings(rows, repeats),
    )


def lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Rows with their line numbers; blank lines are passed over."""
    start, number = 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        line = data[start:end].strip(b" \t\r")
        if line:
            yield number, line
        start = end + 1


def read(data: bytes) -> list[tuple[int, list[dict[str, Any]]]]:
    """The messages of each row with its line number, of data that `check` found whole."""
    return [(number, msgspec.json.decode(line)["messages"]) for number, line in lines(data)]


def _broken(line: bytes) -> str | None:
    """Why a row cannot be used, or None."""
    if len(line) > LONGEST_LINE:
        return f"the row has {len(line)} bytes; at most {LONGEST_LINE} are taken"
    if line.startswith(b"\xef\xbb\xbf"):
        return "the file begins with a byte order mark; save it as UTF-8 without one"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start + 1} of the row; save the file as UTF-8"
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"not JSON ({str(error)[:120]}); expected one whole object on each line"
    if not isinstance(row, dict):
        return f'expected an object {{"messages": [...]}}, found {_kind(row)}'
    unknown = sorted(set(row) - _ROW_KEYS)
    if "messages" not in row:
        return f"'messages' is missing{_found(unknown)}"
    if unknown:
        return f"unknown field {_quoted(unknown[0])}; a row has 'messages' alone"
    return _broken_messages(row["messages"])


def _broken_messages(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"'messages' is {_kind(messages) if messages != [] else 'empty'}; expected a list of messages"
    if len(messages) > MOST_MESSAGES:
        return f"'messages' holds {len(messages)} messages; at most {MOST_MESSAGES} are taken"
    for number, message in enumerate(messages, 1):
        reason = _broken_message(message)
        if reason is not None:
            return f"message {number}: {reason}"
        if message["role"] == "system" and number > 1:
            return f"message {number}: a system message stands first or not at all"
    if messages[-1]["role"] != "assistant":
        return f"the last message is the {messages[-1]['role']}'s; expected an assistant turn to learn"
    if not any(m["role"] == "assistant" and m.get("weight", 1) for m in messages):
        return "all assistant turns have weight 0; there is nothing to learn"
    return None


def _broken_message(message: Any) -> str | None:
    if not isinstance(message, dict):
        return f"expected an object with 'role' and 'content', found {_kind(message)}"
    role = message.get("role")
    if "role" not in message:
        return "'role' is missing"
    if not isinstance(role, str) or role not in ROLES:
        return f"role {_quoted(role)} is not known; expected one of {', '.join(ROLES)}"
    if "content" not in message:
        return "'content' is missing"
    content = message["content"]
    if not isinstance(content, str):
        return f"'content' is {_kind(content)}; expected a text"
    if not content.strip():
        return "'content' is empty"
    unknown = sorted(set(message) - _MESSAGE_KEYS)
    if unknown:
        return f"unknown field {_quoted(unknown[0])}; expected role, content, name, weight"
    if not isinstance(message.get("name", ""), str):
        return f"'name' is {_kind(message['name'])}; expected a text"
    if "weight" in message:
        if role != "assistant":
            return "'weight' stands on assistant turns only"
        weight = message["weight"]
        if isinstance(weight, bool) or weight not in (0, 1):
            return "'weight' is neither 0 nor 1"
    return None


def _warnings(rows: int, repeats: int) -> tuple[str, ...]:
    found = []
    if 0 < rows < FEW_ROWS:
        found.append(f"only {rows} row{'s' * (rows > 1)}: the model will learn them by heart and little else")
    if repeats:
        found.append(f"{repeats} row{'s' * (repeats > 1)} stand{'s' * (repeats == 1)} in the data more than once")
    return tuple(found)


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else _kind(value)
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _found(names: list[str]) -> str:
    return f"; found {', '.join(_quoted(n) for n in names[:5])}" if names else ""

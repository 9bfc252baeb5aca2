"""How results look on a terminal: tables and records, plain when piped."""

import sys
from collections.abc import Sequence
from typing import Any

from ecotone.cli.client import print_json


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Rows as a table of the columns named, or as JSON with everything."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        print(empty)
        return
    if not sys.stdout.isatty():
        _plain(rows, columns)
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        shown.add_row(*(text(row.get(column)) for column in columns))
    Console(highlight=False, markup=False, soft_wrap=False).print(shown)


def _plain(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Columns in line, nothing broken: for `grep` and `awk`."""
    lines = [[c.replace("_", " ") for c in columns], *([text(row.get(c)) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def record(value: dict[str, Any], *, as_json: bool) -> None:
    """One thing as `name  value` lines, or as JSON."""
    if as_json:
        print_json(value)
        return
    width = max((len(k) for k in value), default=0)
    for name, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            print(f"{name.replace('_', ' ')}:")
            for part in item:
                print("  - " + ", ".join(f"{k}: {text(v)}" for k, v in part.items() if v not in (None, [], "")))
        else:
            print(f"{name.replace('_', ' '):<{width}}  {text(item)}")


def text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(text(v) for v in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{k}={text(v)}" for k, v in value.items()) or "-"
    return str(value)


def decision(value: dict[str, Any]) -> None:
    """A licence decision for a person: verdict, reasons with clauses, duties, what is unknown, the way to yes."""
    use = value.get("use", {})
    subject = value.get("subject", {})
    print(f"{value['verdict']}: {subject.get('model')} for {use.get('mode')}, {use.get('purpose')}")
    for reason in value.get("reasons", []):
        where = f" (from {reason['node']})" if reason.get("node") not in (None, subject.get("model")) else ""
        mark = {"true": "+", "false": "-", "unknown": "?"}.get(str(reason.get("evaluation")), "*")
        print(f"  {mark} {reason.get('entry')} {reason.get('clause')}{where}: {reason.get('means')}")
    for heading, key in (("duties", "duties"), ("possible duties", "possible_duties")):
        if value.get(key):
            print(f"{heading}:")
            for duty in value[key]:
                words = f" {duty['text']!r}" if duty.get("text") else ""
                where = f" in {text(duty['where'])}" if duty.get("where") else ""
                print(f"  - {duty.get('duty')}{words}{where} ({duty.get('entry')} {duty.get('clause')})")
    if value.get("missing"):
        print("not known: " + ", ".join(text(m) for m in value["missing"]))
    for rule in (value.get("policy") or {}).get("overrides", []):
        print(
            f"by rule {rule['id']}: {rule['kind']} {rule.get('value')} for {rule['subject']}, {rule['reason']} "
            f"({rule.get('evidence')}; proposed by {rule['by']} on {rule['created'][:10]}, approved by "
            f"{rule.get('approved_by')} on {str(rule.get('approved'))[:10]}, until {rule.get('expires')})"
        )
    for name, assumed in (value.get("assumptions") or {}).items():
        print(f"assumed: {name} {assumed}")
    for warning in value.get("warnings", []):
        print(f"note: {warning}")
    for way in value.get("would_allow", []):
        print(f"would make it yes: {way.get('change')} -> {way.get('verdict')}")
    policy = value.get("policy") or {}
    for rule in policy.get("rules", []):
        print(f"rule of the organisation ({rule.get('fact')}, {rule.get('clause')}): {rule.get('means')}")
    _certainty(value)


def _certainty(value: dict[str, Any]) -> None:
    """How far the answer can be relied on: what was assumed, what is disputed, what was not read in the text itself."""
    if value.get("use", {}).get("from_profile"):
        print("taken from the organisation's profile: " + ", ".join(value["use"]["from_profile"]))
    for other in value.get("disputed", []):
        print(
            f"disputed: {other.get('position')} is read as {other.get('chosen')}; "
            f"as {other.get('value')} the answer is {other.get('verdict')}"
        )
    if value.get("secondary_facts"):
        print("not read in the text itself (secondary): " + ", ".join(value["secondary_facts"]))
    print(f"knowledge base {value.get('knowledge_base')}; {value.get('notice', 'not legal advice')}")

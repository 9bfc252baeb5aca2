"""The documentation names every error that a caller of the gateway may get."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MADE = re.compile(r'(?:Refusal|NotLeased)\(\s*[0-9]{3},\s*"([a-z_]+)"')
_NAMED = re.compile(r'^    code = "(ledger_[a-z]+)"', re.M)


def test_whoever_gets_an_error_of_the_gateway_finds_its_code_in_the_documentation() -> None:
    source = ROOT / "src" / "ecotone"
    codes = {code for file in (source / "gateway").rglob("*.py") for code in _MADE.findall(file.read_text())}
    codes |= {code for file in (source / "ledger").rglob("*.py") for code in _NAMED.findall(file.read_text())}
    assert len(codes) > 30
    page = (ROOT / "docs" / "gateway.md").read_text()
    assert sorted(code for code in codes if f"`{code}`" not in page) == []

"""Names as parts of the REST API's paths."""

from urllib.parse import quote


def scope_path(scope: str) -> str:
    """A scope, whose slashes stay."""
    return quote(scope, safe="/:*")

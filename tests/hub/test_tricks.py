"""Names that climb, fold, hide or break, in every parameter of every route: refused or not found, no error of ours."""

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hub.built import Built, bearer, routes
from tests.hub.test_route_table import VALUES

ROUTES = routes()
PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
CLIMBING = ("..", "../..", "..%2f..", "%2e%2e", "%5c..%5c", "/etc/passwd", "//", "\\", "%EF%BC%8E%EF%BC%8E", "%u002e")
BROKEN = ("%00", "%0d%0ax-evil:1", "%c0%ae%c0%ae", "%ff", "x" * 300, "9" * 30, "refs/pr/-1", "{name}", "*", "~", "-")
LOOKING_ALIKE = ("\u202e", "\ufb01", "\u0130", "a\u0301", ".git", ".GIT/config", "0" * 40, "refs%2Fheads%2Fmain")
TRICKS = st.one_of(st.text(max_size=40), st.sampled_from([*CLIMBING, *BROKEN, *LOOKING_ALIKE]))
QUERIES = st.sampled_from(
    (
        *("search", "author", "filter", "sort", "direction", "cursor", "limit", "p", "expand", "expand[]", "gated"),
        *("apps", "num_parameters", "inference", "full", "recursive"),
    )
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TRICKS)
WORDS = st.sampled_from(
    (
        *("name", "organization", "type", "paths", "files", "path", "size", "sample", "sha", "deletions", "key"),
        *("rewriteHistory", "target", "repository", "visibility", "message", "tag", "startingPoint", "fromRepo"),
        *("toRepo", "content"),
    )
)
JSON = st.recursive(LEAVES, lambda x: st.one_of(st.lists(x, max_size=3), st.dictionaries(WORDS, x, max_size=4)))
OBJECTS = st.dictionaries(WORDS, JSON, max_size=5)
BODY = st.one_of(st.one_of(OBJECTS, JSON).map(lambda value: json.dumps(value).encode()), st.binary(max_size=60))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    found = Built(tmp_path_factory.mktemp("tricks"))
    found.fill()
    yield found
    found.stop()


def send(
    built: Built, method: str, path: str, values: dict[str, str], query: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers; the path goes out as it is, for other clients would straighten it."""
    raw = PARAMETER.sub(lambda m: values[m[1]], path).encode("utf-8", "replace")
    target = b"".join(b"%%%02X" % b if b <= 32 or b > 126 or b in b'"<>?#' else bytes([b]) for b in raw).decode()
    told = {name: text.encode("utf-8", "replace") for name, text in (query or {}).items()}
    target += "?" + urlencode(told) if told else ""
    connection = HTTPConnection("127.0.0.1", built.port, timeout=120)
    try:
        connection.request(method, target, body, bearer(built.tokens["owner"]))
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def check(answer: tuple[int, bytes, dict[str, str]], *asked: object) -> None:
    status, body, headers = answer
    assert status < 500, (asked, body)
    assert b"root:" not in body and "x-evil" not in headers, asked


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_trick_breaks_anything(built: Built, data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from(ROUTES))
    names = PARAMETER.findall(path)
    values = {name: VALUES.get(name, "1") for name in names} | {"name": "shown"}
    if names:
        values[data.draw(st.sampled_from(names))] = data.draw(TRICKS)
    query = data.draw(st.dictionaries(QUERIES, TRICKS, max_size=2))
    body = data.draw(BODY) if method not in ("GET", "HEAD") else b""
    check(send(built, method, path, values, query, body), method, path, values, query, body)


@pytest.mark.parametrize("trick", [*CLIMBING, *BROKEN, *LOOKING_ALIKE])
def test_each_known_trick_in_each_parameter(built: Built, trick: str) -> None:
    for method, path in ROUTES:
        if method == "GET":
            for name in PARAMETER.findall(path):
                values = {n: VALUES.get(n, "1") for n in PARAMETER.findall(path)} | {"name": "shown", name: trick}
                check(send(built, method, path, values), path, name)

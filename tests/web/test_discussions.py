"""Discussions as pages: what people do there without a script, what no other site can do for them, what never runs."""

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.publishing import AddRegular, Commit
from ecotone.vocabulary import RepoType, Role
from tests.web.test_sessions import log_in

RITA = Actor("user", "rita", Role.READ)


@pytest.fixture
def model(server: SimpleNamespace) -> Any:
    """A fresh repository with a card."""
    name = f"demo/talk-{time.monotonic_ns()}"
    server.services.catalog.create(name, private=False, actor=SYSTEM)
    send(server, name, "README.md", b"---\nlicense: mit\n---\n# Talk\n")
    return server.services.catalog.model(name, viewer=SYSTEM)


@pytest.fixture
def rita(server: SimpleNamespace) -> Iterator[httpx.Client]:
    client, _ = log_in(server, server.services.reader)
    yield client
    client.close()


@pytest.fixture
def admin(server: SimpleNamespace) -> Iterator[httpx.Client]:
    client, _ = log_in(server)
    yield client
    client.close()


def send(server: SimpleNamespace, name: str, path: str, data: bytes) -> None:
    change = Commit(message="Change", operations=(AddRegular(path, data),))
    server.services.publishing.commit(name, "main", change, actor=SYSTEM)


def propose(server: SimpleNamespace, name: str, path: str, data: bytes) -> int:
    change = Commit(message="Better", operations=(AddRegular(path, data),))
    _, made = server.services.reviews.propose(name, "main", change, actor=RITA)
    return int(made.num)


def submit(http: httpx.Client, page: str, act: str, **fields: str) -> httpx.Response:
    """Send the form of a page that ends in `act`, with what it holds and what a person would fill in."""
    text = http.get(page).text
    forms = re.findall(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', text, re.S)
    action, inside = next((a, i) for a, i in forms if a.endswith(act) and a.startswith("/ecotone/discussions/"))
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', inside))
    return http.post(action, data=hidden | fields, follow_redirects=True)


def test_a_discussion_is_held_without_script(rita: httpx.Client, admin: httpx.Client, model: Any) -> None:
    started = submit(rita, f"/{model.id}/discussions/new", model.id, title="Why <b>?", comment="Because **x**")
    assert started.status_code == 200 and str(started.url).endswith(f"/{model.id}/discussions/1")
    assert "Why &lt;b&gt;?" in started.text and "<strong>x</strong>" in started.text
    page = f"/{model.id}/discussions/1"
    assert "second &amp; last" in submit(admin, page, "/comment", comment="second & last").text
    edited = submit(rita, page, "/edit", comment="Because y")
    assert "Because y" in edited.text and "edited" in edited.text
    assert "Renamed" in submit(rita, page, "/title", title="Renamed").text
    hidden = submit(admin, page, "/hide")
    assert "Hidden by" in hidden.text and "Because y" not in hidden.text
    assert "closed" in submit(rita, page, "/status").text
    assert "opened it" in submit(rita, page, "/status").text
    assert "Renamed" in rita.get(f"/{model.id}/discussions").text
    assert "Discussions" in rita.get(f"/{model.id}").text


def test_a_request_is_resolved_and_merged_without_script(
    server: SimpleNamespace, rita: httpx.Client, admin: httpx.Client, model: Any
) -> None:
    num = propose(server, model.id, "notes.md", b"theirs\n")
    send(server, model.id, "notes.md", b"ours\n")
    page = f"/{model.id}/discussions/{num}"
    shown = server.http.get(page).text
    assert "notes.md" in shown and "+theirs" in shown and "<form" not in shown.split("<main")[1]
    assert "Merge into" not in rita.get(page).text
    assert "Merge into" not in admin.get(page).text, "in conflict"
    resolved = submit(rita, page, "/update", **{"keep.notes.md": "ours"})
    assert resolved.status_code == 200 and "No conflict" in resolved.text
    merged = submit(admin, page, "/merge")
    assert merged.status_code == 200 and "merged it as" in merged.text
    assert server.http.get(f"/{model.id}/resolve/main/notes.md").text == "theirs\n"
    assert "Better" in admin.get(f"/{model.id}/discussions?status=closed").text


def test_who_may_not_is_told_why_and_nothing_happens(
    server: SimpleNamespace, rita: httpx.Client, admin: httpx.Client, model: Any
) -> None:
    num = propose(server, model.id, "notes.md", b"theirs\n")
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', rita.get("/").text)
    assert token
    at = f"/ecotone/discussions/model/{model.id}/{num}"
    assert rita.post(f"{at}/merge", data={"form_token": token.group(1)}).status_code == 403
    assert rita.post(f"{at}/nothing", data={"form_token": token.group(1)}).status_code == 400
    own = server.services.reviews.open(model, "Mine", "x", actor=SYSTEM).num
    at = f"/ecotone/discussions/model/{model.id}/{own}"
    for act, fields in (("title", {"title": "Taken"}), ("status", {"status": "closed"})):
        refused = rita.post(f"{at}/{act}", data={"form_token": token.group(1), **fields})
        assert refused.status_code == 403 and "may write to" in refused.text
    assert "Mine" in rita.get(f"/{model.id}/discussions/{own}").text


def test_a_refused_text_comes_back_on_its_form(server: SimpleNamespace, rita: httpx.Client, model: Any) -> None:
    num = server.services.reviews.open(model, "Mine", "x", actor=RITA).num
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', rita.get("/").text)
    assert token
    sent = {"form_token": token.group(1)}
    at = f"/ecotone/discussions/model/{model.id}"
    refused = rita.post(at, data=sent | {"title": "t" * 201, "comment": "Hours of <work>"})
    assert refused.status_code == 400 and 'role="alert"' in refused.text and "1 to 200 characters" in refused.text
    assert "t" * 201 in refused.text and "Hours of &lt;work&gt;</textarea>" in refused.text
    long = "Days of work " * 10_000
    refused = rita.post(f"{at}/{num}/comment", data=sent | {"comment": long})
    assert refused.status_code == 413 and 'role="alert"' in refused.text and long in refused.text
    refused = rita.post(f"{at}/{num}/title", data=sent | {"title": "u" * 201})
    assert refused.status_code == 400 and f'value="{"u" * 201}"' in refused.text


def test_a_merge_that_breaks_a_licence_names_the_clause(server: SimpleNamespace, admin: httpx.Client) -> None:
    name = f"demo/llama-{time.monotonic_ns()}"
    server.services.catalog.create(name, private=False, actor=SYSTEM)
    num = propose(server, name, "adapter_config.json", b'{"base_model_name_or_path": "meta-llama/Llama-2-7b"}')
    send(server, name, "README.md", b"---\nlicense: mit\n---\n# Talk\n")
    refused = submit(admin, f"/{name}/discussions/{num}", "/merge")
    assert refused.status_code == 403 and "Llama 2" in refused.text and "clause" in refused.text
    assert "Merge into" in admin.get(f"/{name}/discussions/{num}").text


def test_no_other_site_speaks_for_a_visitor(server: SimpleNamespace, rita: httpx.Client, model: Any) -> None:
    num = server.services.reviews.open(model, "Mine", "x", actor=RITA).num
    at = f"/ecotone/discussions/model/{model.id}"
    for action, fields in (
        (at, {"title": "Forged", "comment": "x"}),
        (f"{at}/{num}/comment", {"comment": "Forged"}),
        (f"{at}/{num}/status", {"status": "closed"}),
        (f"{at}/{num}/title", {"title": "Forged"}),
        (f"{at}/{num}/merge", {}),
    ):
        for more in ({}, {"form_token": "0" * 64}):
            assert rita.post(action, data=fields | more).status_code == 403, action
        assert server.http.post(action, data=fields).status_code == 403, action
    assert "Forged" not in rita.get(f"/{model.id}/discussions?status=all").text
    assert "Forged" not in rita.get(f"/{model.id}/discussions/{num}").text


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "![a](javascript:alert(1))",
        "<svg><script>alert(1)</script></svg>",
        "<form action=/logout method=post><button>x</button></form>",
        "</div></article></li><script>alert(1)</script>",
        "</textarea><script>alert(1)</script>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<style>*{display:none}</style>",
        "<div onclick=alert(1) style='position:fixed;inset:0'>x</div>",
    ],
)
def test_hostile_comments_and_titles_run_nothing(
    server: SimpleNamespace, rita: httpx.Client, model: Any, text: str
) -> None:
    num = server.services.reviews.open(model, text, text, actor=RITA).num
    for path in (f"/{model.id}/discussions/{num}", f"/{model.id}/discussions?status=all"):
        seen = Elements()
        seen.feed(rita.get(path).text.split("<main")[1].split("</main>")[0])
        assert not {"script", "iframe", "style", "svg", "object", "base"} & seen.tags
        assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "style"]
        sent = [value for name, value in seen.attributes if name in ("href", "src", "action")]
        assert all(value.startswith(("/", "#", "?")) for value in sent), sent
        assert all(value.startswith("/ecotone/discussions/") for name, value in seen.attributes if name == "action")


class Elements(HTMLParser):
    """Tags and attributes of a piece of a page, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_only_pictures_attached_here_are_shown(server: SimpleNamespace, rita: httpx.Client, model: Any) -> None:
    base, name = server.url, "a" * 64 + ".png"
    text = (
        f"![own]({base}/uploads/{name}) ![other](https://evil.example/uploads/{name}) "
        f"![trick]({base}/uploads/../logout) ![svg]({base}/uploads/{'a' * 64}.svg)"
    )
    num = server.services.reviews.open(model, "Pictures", text, actor=RITA).num
    page = rita.get(f"/{model.id}/discussions/{num}").text
    assert re.findall(r'<img[^>]*src="([^"]+)"', page) == [f"/uploads/{name}"]


def test_private_discussions_look_absent(server: SimpleNamespace, rita: httpx.Client) -> None:
    secret = server.services.catalog.model("demo/secret", viewer=SYSTEM)
    num = server.services.reviews.open(secret, "Codename", "x", actor=RITA).num
    assert "Codename" in rita.get(f"/demo/secret/discussions/{num}").text
    for end in ("", "/new", f"/{num}", "/999", "/x"):
        answers = [server.http.get(f"/demo/{name}/discussions{end}") for name in ("secret", "absent")]
        assert [a.status_code for a in answers] == [404, 404], end
        shown = [a.text.replace("secret", "NAME").replace("absent", "NAME") for a in answers]
        assert shown[0] == shown[1]


@pytest.mark.parametrize(("kind", "prefix"), [("dataset", "datasets/"), ("space", "spaces/")])
def test_datasets_and_spaces_have_them_too(server: SimpleNamespace, rita: httpx.Client, kind: str, prefix: str) -> None:
    name = f"demo/{kind}-{time.monotonic_ns()}"
    server.services.catalog.create(name, repo_type=RepoType(kind), private=False, actor=SYSTEM)
    started = submit(rita, f"/{prefix}{name}/discussions/new", name, title="Rows", comment="which?")
    assert started.status_code == 200 and str(started.url).endswith(f"/{prefix}{name}/discussions/1")
    assert "Rows" in server.http.get(f"/{prefix}{name}/discussions").text
    change = Commit(message="Better", operations=(AddRegular("a/b.txt", b"x\n"),))
    server.services.reviews.propose(name, "main", change, actor=RITA, repo_type=RepoType(kind))
    for num in (1, 2):
        page = rita.get(f"/{prefix}{name}/discussions/{num}").text
        for link in set(re.findall(r'href="(/[^"#]*)"', page.split("<main")[1])):
            assert rita.get(link, follow_redirects=True).status_code == 200, link


def test_bounds_of_lists_and_numbers(server: SimpleNamespace, model: Any) -> None:
    for query in ("p=99999", "p=-1", "p=x", "p=" + "9" * 40):
        assert server.http.get(f"/{model.id}/discussions?{query}").status_code == 200
    assert server.http.get(f"/{model.id}/discussions?status=x").status_code == 400
    for number in ("0", "x", "9" * 30, "1e3"):
        assert server.http.get(f"/{model.id}/discussions/{number}").status_code == 404


def test_many_long_comments_do_not_make_a_page_slow(server: SimpleNamespace, rita: httpx.Client, model: Any) -> None:
    """Each of them takes seconds as Markdown: one is shown so, the others as they were written."""
    reviews = server.services.reviews
    num = reviews.open(model, "Long", "**first**", actor=RITA).num
    for _ in range(20):
        reviews.comment(model, num, "![<b>" * 13_000, actor=RITA)
    reviews.comment(model, num, "*newest*", actor=RITA)
    began = time.process_time()  # of the server too, which runs in this process
    text = rita.get(f"/{model.id}/discussions/{num}", timeout=60).text
    assert time.process_time() - began < 15
    assert "<em>newest</em>" in text and "<strong>first</strong>" in text
    assert text.count("<pre>![&lt;b&gt;") == 19

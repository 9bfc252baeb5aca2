"""What a visitor finds: the catalogue, a model with everything known of it, its files and its history."""

import re
from html import unescape
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ecotone.accounts import SYSTEM
from ecotone.web.snippets import snippets

PEOPLE_ASK_FOR = (
    *("bert", "roberta", "t5", "mistral", "llama", "palm", "gemini"),
    *("gpt", "claude", "gemma", "qwen", "deepseek", "titan"),
)


def text(server: SimpleNamespace, path: str, status: int = 200) -> str:
    answer = server.http.get(path)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return str(answer.text)


def links(html: str) -> list[str]:
    return re.findall(r'href="([^"#?]+)', html)


@pytest.mark.parametrize("word", PEOPLE_ASK_FOR)
def test_search_finds_what_people_ask_for_and_links_to_it(server: SimpleNamespace, word: str) -> None:
    found = [link for link in links(text(server, f"/?search={word}").lower()) if word in link]
    assert found and all(re.fullmatch(r"/[^/]+/[^/]+", link) for link in found)


def test_the_front_page_shows_open_and_proprietary_and_filters(server: SimpleNamespace) -> None:
    both = text(server, "/")
    assert "Open weights" in both and "Proprietary" in both and "/demo/bert-atlas" in both
    proprietary = text(server, "/?kind=proprietary")
    assert "/openai/gpt-4o" in proprietary and "/demo/bert-atlas" not in proprietary
    assert "/openai/gpt-4o" not in text(server, "/?kind=open&search=gpt")


def test_pages_of_the_list_hold_everything_once(server: SimpleNamespace) -> None:
    seen, path = [], "/"
    while path:
        html = text(server, path)
        seen += re.findall(r'<h3><a href="(/[^"]+)"', html)
        following = re.search(r'href="([^"]+)" rel="next"', html)
        path = following.group(1).replace("&amp;", "&") if following else ""
    assert len(seen) == len(set(seen)) > 40


def test_an_empty_search_says_what_to_do(server: SimpleNamespace) -> None:
    html = text(server, "/?search=" + "<b>nothing")
    assert "&lt;b&gt;nothing" in html and "<b>nothing" not in html
    assert "hf upload" in html


def test_a_model_page_has_card_files_licence_family_and_use(server: SimpleNamespace) -> None:
    html = unescape(text(server, "/demo/bert-atlas"))
    for part in (
        "144 facts",
        "model.safetensors",
        "Apache-2.0",
        "google-bert/bert-base-uncased",
        "HF_ENDPOINT=" + server.url,
    ):
        assert part in html
    assert f'base_url="{server.url}/v1"' in html
    assert "Run it inside a company" in html and "Allowed" in html
    assert "https://pictures.example/map.png" in html and 'src="https://pictures' not in html


def test_measurements_are_shown_with_plot_figures_and_criticism(server: SimpleNamespace) -> None:
    html = text(server, "/demo/bert-atlas")
    part = html.split('id="measurements"')[1].split('id="use"')[0]
    assert "<svg" in part and "weat" in part and "+1.42" in part and "&lt; 0.001" in part
    assert "Somebody 2021" in part and "insects <i>" not in part and " style=" not in part


def test_parents_show_their_children(server: SimpleNamespace) -> None:
    assert 'href="/demo/bert-atlas"' in text(server, "/google-bert/bert-base-uncased")


def test_starter_entries_have_sources_and_say_that_weights_are_elsewhere(server: SimpleNamespace) -> None:
    html = text(server, "/meta-llama/Llama-2-7b")
    assert "No weights here" in html and "arXiv 2307.09288" in html and "700 million" in html
    assert "no model was published under this name" in text(server, "/unpublished/titan-nlp")
    palm = text(server, "/google/palm")
    assert "closed" in palm and "not under MIT" in palm


def test_a_proprietary_model_shows_provider_and_dated_terms(server: SimpleNamespace) -> None:
    html = text(server, "/openai/gpt-4o")
    assert "OpenAI Services Agreement" in html and "1 January 2026" in html and "Build a product" in html


def test_a_visitor_can_ask_for_a_use_of_their_own(server: SimpleNamespace) -> None:
    html = text(server, "/meta-llama/Llama-2-7b?mode=serve_api&purpose=commercial&users=10&org.mau_at.2023-06=10")
    own = html.split("Your use")[0].rsplit("<details", 1)[1]
    assert "allow" in own
    assert "Your use" not in text(server, "/meta-llama/Llama-2-7b?mode=steal&purpose=commercial")


def test_hostile_cards_and_files_stay_text(server: SimpleNamespace) -> None:
    html = text(server, "/demo/hostile")
    own = re.findall(r'<script src="/static/[0-9a-f]+/[a-z]+[.]js" defer></script>', html)
    assert html.count("<script") == len(own)  # from this server
    for bad in ("<script>alert", " onerror=", "<iframe", "<svg onload", "<base", "<h1>fake", "position:fixed"):
        assert bad not in html, bad
    blob = text(server, "/demo/hostile/blob/main/page.html")
    assert "&lt;script&gt;alert(8)" in blob and "<script>alert(8)" not in blob


def test_files_can_be_browsed_and_previewed(server: SimpleNamespace) -> None:
    assert "/demo/bert-atlas/tree/main/docs" in text(server, "/demo/bert-atlas/tree/main")
    assert "/demo/bert-atlas/blob/main/docs/notes.md" in text(server, "/demo/bert-atlas/tree/main/docs")
    assert "with <b>two</b>" in text(server, "/demo/bert-atlas/blob/main/docs/notes.md")
    assert "with &lt;b&gt;two" in text(server, "/demo/bert-atlas/blob/main/docs/notes.md?plain=1")
    assert "4 × 8" in text(server, "/demo/bert-atlas/blob/main/model.safetensors")
    assert "empty" in text(server, "/demo/bert-atlas/blob/main/blank.txt")
    text(server, "/demo/bert-atlas/blob/main/absent.txt", 404)
    text(server, "/demo/bert-atlas/tree/main/absent", 404)
    text(server, "/demo/bert-atlas/tree/no-such-branch", 404)
    text(server, "/meta-llama/Llama-2-7b/tree/main", 404)


def test_history_shows_commits_and_what_they_changed(server: SimpleNamespace) -> None:
    html = text(server, "/demo/bert-atlas/commits/main")
    newest = re.search(r"/demo/bert-atlas/commit/([0-9a-f]{40})", html)
    assert newest and "Say more" in html
    commit = text(server, f"/demo/bert-atlas/commit/{newest.group(1)}")
    assert "-Notes: déjà vu" in commit and "+with &lt;b&gt;two&lt;/b&gt; lines" in commit and "1 file changed" in commit
    by_branch = server.http.get("/demo/bert-atlas/commit/main")
    assert by_branch.status_code == 303 and by_branch.headers["location"].endswith("/commit/" + newest.group(1))
    text(server, "/demo/bert-atlas/commit/no-such-branch", 404)
    text(server, "/demo/bert-atlas/commit/" + "0" * 40, 404)
    text(server, "/demo/bert-atlas/commits/main?from=x1")


def test_datasets_and_namespaces_have_pages(server: SimpleNamespace) -> None:
    assert "/datasets/demo/rows" in text(server, "/datasets")
    assert "--repo-type dataset" in text(server, "/datasets/demo/rows")
    assert "/demo/bert-atlas" in text(server, "/demo")
    text(server, "/no-such-namespace", 404)


def test_every_page_keeps_strangers_out(server: SimpleNamespace) -> None:
    for path in ("/", "/demo/bert-atlas", "/login", "/demo/absent", "/ecotone/status", "/a/b/c/d/e/f"):
        headers = server.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"


def test_pages_are_small_and_assets_are_kept(server: SimpleNamespace) -> None:
    html = text(server, "/")
    assert len(html) < 100_000
    (style,) = re.findall(r'href="(/static/[^"]+\.css)"', html)
    answer = server.http.get(style)
    assert "immutable" in answer.headers["cache-control"] and len(answer.content) < 40_000
    assert server.http.get("/static/0/ecotone.css").headers["cache-control"] == "no-cache"
    assert server.http.get("/static/0/nothing.css").status_code == 404


def test_pages_load_nothing_from_elsewhere(server: SimpleNamespace) -> None:
    for path in ("/", "/demo/bert-atlas", "/demo/hostile", "/openai/gpt-4o"):
        loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', text(server, path))
        assert loaded and all(address.startswith("/") and not address.startswith("//") for address in loaded)


def test_strange_addresses_are_answered_readably(server: SimpleNamespace) -> None:
    for path in (
        "/demo/..%2f..",
        "/%00/x",
        "/demo/%ff",
        "/-a/b",
        "/demo/bert-atlas/blob/main/..%2f..%2fetc",
        "/datasets/x",
    ):
        answer = server.http.get(path)
        assert answer.status_code == 404 and "<h1>" in answer.text, path
    assert server.http.get("/?cursor=nonsense").status_code == 400
    assert server.http.post("/demo/bert-atlas").status_code == 405


@pytest.mark.parametrize(
    ("tag", "config", "called"),
    [
        ("fill-mask", {"model_type": "roberta"}, 'fill_mask("Paris is the capital of <mask>.")'),
        ("fill-mask", {"model_type": "bert"}, 'fill_mask("Paris is the capital of [MASK].")'),
        ("text2text-generation", {"model_type": "t5"}, 'text_generation("Hello")'),
        ("text-generation", {"model_type": "llama"}, "chat_completion("),
        ("sentence-similarity", {"model_type": "bert"}, "sentence_similarity("),
    ],
)
def test_a_models_page_shows_a_call_that_this_model_answers(
    tag: str, config: dict[str, Any], called: str, server: Any
) -> None:
    model = msgspec.structs.replace(server.services.catalog.model("demo/bert-atlas", viewer=SYSTEM), pipeline_tag=tag)
    revision = server.services.catalog.revision(model, "main")
    shown = {
        s.title: s.text
        for s in snippets("http://h", model, msgspec.structs.replace(revision, config=config), is_served=True)
    }
    assert (
        called in shown["Hugging Face client"]
        and 'model="http://h/models/demo/bert-atlas"' in shown["Hugging Face client"]
    )
    writes = tag in ("text-generation", "text2text-generation")
    assert ("chat.completions" in shown["OpenAI client"]) is writes
    for text in (shown["Hugging Face client"], shown["OpenAI client"], shown["Transformers"]):
        compile(text, "snippet", "exec")

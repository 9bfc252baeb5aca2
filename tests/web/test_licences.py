"""Pages of the knowledge base, the organisation's profile, and the family tree, as plain HTML without a browser."""

import re
from html import unescape
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from ecotone.accounts import SYSTEM, Profile
from ecotone.licences import KnowledgeBase
from ecotone.web.licensing import badge

KB = KnowledgeBase.load()
ADMIN_PAGE = "/ecotone/profile"


def text(server: SimpleNamespace, path: str, status: int = 200, **how: Any) -> str:
    answer = server.http.get(path, **how)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return unescape(str(answer.text))


def test_a_repository_that_names_no_licence_is_not_called_one_with_an_unknown_licence() -> None:
    """Whoever reads the list looks for a text that is missing from the knowledge base, where there is no text."""
    assert badge(KB, None, ()).word == "no licence found"
    assert badge(KB, "house-rules", ("unknown",)).word == "not in the knowledge base"


@pytest.fixture
def admin(server: SimpleNamespace) -> Any:
    """A browser's client that has logged in as administrator."""
    with httpx.Client(base_url=server.url, timeout=120) as http:
        form = http.get("/login").text
        token = re.search(r'name="form_token" value="([^"]+)"', form)
        assert token
        told = {"form_token": token[1], "token": server.services.settings.admin_token, "next": "/"}
        assert http.post("/login", data=told).status_code == 303
        yield http


def form_token(html: str) -> str:
    found = re.search(r'action="/ecotone/profile">\s*<input type="hidden" name="form_token" value="([^"]+)"', html)
    assert found
    return found[1]


def test_every_text_is_listed_and_has_a_page(server: SimpleNamespace) -> None:
    links = re.findall(r'href="/ecotone/licences/([^"?#]+)"', text(server, "/ecotone/licences"))
    assert {unquote(link) for link in links} == set(KB.entries)
    for entry in KB.entries.values():
        html = text(server, f"/ecotone/licences/{entry.id}")
        assert entry.title in html and "Not legal advice" in html and KB.version in html
        for fact in entry.facts:
            assert fact.means in html and fact.clause.sec in html


def test_the_list_is_searched_by_title_hub_name_and_kind(server: SimpleNamespace) -> None:
    assert "/ecotone/licences/llama-3.1" in text(server, "/ecotone/licences?search=LLAMA3.1")
    found = text(server, "/ecotone/licences?search=community&kind=api_terms")
    assert "/ecotone/licences/llama-3.1" not in found
    nothing = text(server, "/ecotone/licences?search=<b>zz")
    assert "<b>zz" in nothing and "<b>zz" not in server.http.get("/ecotone/licences?search=<b>zz").text


def test_a_page_of_a_text_tells_sources_names_doubts_and_models(server: SimpleNamespace) -> None:
    html = text(server, "/ecotone/licences/LLAMA-3.1")
    for part in ("llama3.1", "/meta-llama/Llama-3.1-8B", "disputed: transform_is_new_model", "inferred", "Reviewed"):
        assert part in html
    entry = next(e for e in KB.entries.values() if any(e.authority(f) == "secondary" for f in e.facts))
    assert "secondary" in text(server, f"/ecotone/licences/{entry.id}")
    assert "/ecotone/licences/llama-3.1-use-policy" in html
    text(server, "/ecotone/licences/no-such-text", 404)


def test_models_that_a_visitor_may_not_see_are_not_listed_under_their_licence(
    server: SimpleNamespace, admin: httpx.Client
) -> None:
    assert "demo/secret" not in text(server, "/ecotone/licences/MIT")
    assert "demo/secret" in admin.get("/ecotone/licences/MIT").text


def test_a_licence_answers_for_a_use_and_asks_for_what_it_lacks(server: SimpleNamespace) -> None:
    page = "/ecotone/licences/llama-3.1?mode=serve_api&purpose=commercial"
    assert "Users in Jun 2024" in text(server, page)
    answer = text(server, page + "&org.mau_at.2024-06=5").split('id="answer"')[1]
    assert "verdict-allow_with_duties" in answer
    answer = text(server, page + "&org.mau_at.2024-06=900000000").split('id="answer"')[1]
    assert "verdict-ask_licence" in answer
    for nonsense in ("&org.mau_at.2024-06=-1", "&org.mau_at.2024-99=5", "&territory=<script>", "&account.tier=x" * 40):
        assert "<script>" not in server.http.get(page + nonsense).text.split("<body>")[1]


def test_disputed_answers_show_the_other_reading(server: SimpleNamespace) -> None:
    html = text(server, "/ecotone/licences/CC-BY-NC-4.0?mode=run&purpose=internal_commercial")
    assert "read as allow, the answer is" in html.split('id="answer"')[1]


def test_the_family_tree_shows_relation_licence_verdict_and_hides_what_is_private(
    server: SimpleNamespace, admin: httpx.Client
) -> None:
    html = text(server, "/demo/bert-both?mode=serve_api&purpose=commercial")
    tree = html.split('id="family-tree"')[1].split('id="files"')[0]
    assert 'href="/demo/bert-rivers"' in tree and 'href="/google-bert/bert-base-uncased"' in tree
    assert "verdict-allow" in tree and "finetune" in tree and "merge" in tree
    named = re.search(r"<li[^>]*>(?:(?!<li).)*demo/secret.*?</li>", tree, re.S)
    assert named is not None, "the card names it"
    assert "Not known" in named[0] and "MIT" not in tree, "it reads as a model that is not here"
    assert "MIT" in admin.get("/demo/bert-both").text.split('id="family-tree"')[1].split('id="files"')[0]


def test_rules_of_the_house_are_told_to_its_users_alone(server: SimpleNamespace, admin: httpx.Client) -> None:
    from ecotone.policy import RuleKind

    rule = server.services.policy.add_rule(RuleKind.WARN, "licence:Apache-2.0", "look twice", actor=SYSTEM)
    try:
        assert "look twice" in admin.get("/demo/bert-atlas").text
        assert "look twice" in admin.get("/ecotone/status").text
        assert "look twice" not in text(server, "/demo/bert-atlas")
    finally:
        server.services.policy.remove_rule(rule.id)


# -- the organisation's profile ----------------------------------------------------------------------------------------
def test_the_profile_is_for_administrators(server: SimpleNamespace) -> None:
    text(server, ADMIN_PAGE, 403)
    reader = {"authorization": f"Bearer {server.services.reader}"}
    text(server, ADMIN_PAGE, 403, headers=reader)
    assert server.http.post(ADMIN_PAGE, data={"users": "5"}, headers=reader).status_code == 403
    assert server.http.post(ADMIN_PAGE, data={"users": "5"}).status_code == 403
    assert not server.services.accounts.profile().profile.users


def test_no_other_site_can_tell_the_profile(server: SimpleNamespace, admin: httpx.Client) -> None:
    for token in ("", "0" * 64):
        assert admin.post(ADMIN_PAGE, data={"form_token": token, "users": "5"}).status_code == 403
    token = form_token(admin.get(ADMIN_PAGE).text)
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.post(ADMIN_PAGE, data={"form_token": token, "users": "5"}).status_code == 403
    assert not server.services.accounts.profile().profile.users


def test_the_profile_is_told_on_its_page_and_every_month_is_asked(server: SimpleNamespace, admin: httpx.Client) -> None:
    page = admin.get(ADMIN_PAGE).text
    assert "mau.2024-06" in page and "asked by llama-3.1" in page and "Not told yet" in page
    assert "Tell it once" in admin.get("/").text and "Tell it once" not in text(server, "/")
    noted: list[tuple[str, Any]] = []
    server.services.note = lambda kind, actor, **what: noted.append((kind, actor.name))
    told = {"form_token": form_token(page), "users": "50 000", "revenue": "1,000,000", "domicile": "de"}
    told |= {"month": "2019-12", "month_users": "77", "position.nc_internal": "allow", "affiliates": "no"}
    told |= {"assume_below_thresholds": "yes"}
    try:
        assert admin.post(ADMIN_PAGE, data=told).headers["location"] == ADMIN_PAGE + "?saved=1"
        assert noted == [("profile.set", "admin")]
        kept = server.services.accounts.profile().profile
        assert (kept.users, kept.revenue, kept.domicile, kept.affiliates) == (50_000, 1_000_000, "DE", False)
        assert (kept.mau_at, kept.positions, kept.assume_below_thresholds) == (
            {"2019-12": 77}, {"nc_internal": "allow"}, True,
        )  # fmt: skip
        wrong = admin.post(ADMIN_PAGE, data={**told, "domicile": "Atlantis <b>"})
        assert wrong.status_code == 400 and "two capitals" in wrong.text and "Atlantis <b>" not in wrong.text
        assert server.services.accounts.profile().profile == kept
    finally:
        server.services.policy.set_profile(Profile(), actor=SYSTEM)


def test_figures_of_the_profile_stand_on_no_page_for_visitors(server: SimpleNamespace) -> None:
    server.services.policy.set_profile(Profile(mau_at={"2024-06": 87_654_321}, revenue=12_387_654_321), actor=SYSTEM)
    try:
        html = text(server, "/meta-llama/Llama-3.1-8B?mode=serve_api&purpose=commercial")
        assert "org.mau_at.2024-06" in html and "From the organisation's profile" in html
        assert "87654321" not in html and "verdict-allow_with_duties" in html.split('id="answer"')[1]
    finally:
        server.services.policy.set_profile(Profile(), actor=SYSTEM)

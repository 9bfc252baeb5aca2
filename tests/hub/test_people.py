"""Who somebody is, what they like and who likes what, for the unmodified client."""

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ecotone.vocabulary import Role


def test_overviews_tell_users_from_organisations_and_from_nobody(
    server: SimpleNamespace, api: Any, as_admin: httpx.Client
) -> None:
    stamp = time.monotonic_ns()
    will = HfApi(endpoint=server.url, token="ect_writer")
    will.create_repo(f"will/mine-{stamp}")
    will.create_repo(f"will/rows-{stamp}", repo_type="dataset", private=True)
    api.create_repo(f"house{stamp}/hidden", private=True)
    seen = api.get_user_overview("WILL")
    assert (seen.username, seen.num_models, seen.num_datasets, seen.num_followers) == ("will", 1, 1, 0)
    stranger = HfApi(endpoint=server.url, token=False)
    assert stranger.get_user_overview("will").num_datasets == 0
    assert api.get_organization_overview(f"house{stamp}").num_models == 1
    for call in (
        lambda: stranger.get_organization_overview(f"house{stamp}"),
        lambda: api.get_organization_overview("will"),
        lambda: api.get_user_overview(f"house{stamp}"),
        lambda: api.get_user_overview("no such user"),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 404
    for people in (
        api.list_user_followers("will"), api.list_user_following("will"),
        api.list_organization_followers("x"), api.list_organization_members("x"),
    ):  # fmt: skip
        assert list(people) == []


def test_likes_come_in_pages_and_leave_out_what_the_viewer_may_not_see(
    server: SimpleNamespace, api: Any, as_admin: httpx.Client
) -> None:
    stamp = time.monotonic_ns()
    names = [f"liked/m{number}-{stamp}" for number in range(5)]
    secrets = [server.services.accounts.create_token(f"fan{number}", Role.READ)[1] for number in range(5)]
    for name in names:
        api.create_repo(name)
        headers = {"authorization": f"Bearer {secrets[0]}"}
        assert as_admin.post(f"/api/models/{name}/like", headers=headers).status_code == 200
    for secret in secrets[1:]:
        as_admin.post(f"/api/models/{names[0]}/like", headers={"authorization": f"Bearer {secret}"})
    assert [u.username for u in api.list_repo_likers(names[0])] == [f"fan{number}" for number in range(5)]
    assert sorted(api.list_liked_repos("fan0").models) == names
    for path, whole in ((f"/api/models/{names[0]}/likers", 5), ("/api/users/fan0/likes", 5)):
        found, url, pages = [], f"{path}?limit=2", 0
        while url:
            answer = as_admin.get(url)
            found += answer.json()
            url, pages = answer.links.get("next", {}).get("url", ""), pages + 1
        assert (len(found), len({str(row) for row in found}), pages) == (whole, whole, 3)
    api.update_repo_settings(names[1], private=True)
    stranger = HfApi(endpoint=server.url, token=False)
    assert names[1] not in stranger.list_liked_repos("fan0").models
    assert stranger.get_user_overview("fan0").num_likes == 4
    fan = HfApi(endpoint=server.url, token=secrets[0])
    fan.unlike(names[0])
    assert names[0] not in fan.list_liked_repos().models


def test_a_client_keeps_tokens_apart_by_their_notes(server: SimpleNamespace) -> None:
    _, secret = server.services.accounts.create_token("note-taker", Role.WRITE, "ci [bot]\nx=y: 2")
    me = HfApi(endpoint=server.url, token=secret).whoami()
    assert me["orgs"] == [] and me["auth"]["accessToken"]["displayName"] == "note-taker ci bot x y 2"
    assert me["auth"]["accessToken"]["createdAt"] > "2026"

"""Tasks of `huggingface_hub`: discussions, pull requests, collections, webhooks, likes."""

from pathlib import Path

from content import digests, model_folder, weights
from hub_files import api_of, needs, new_repo, read
from serving import Place, Tasks, raises

tasks = Tasks()


def opened(at: Place, repo: str, number: int) -> None:
    """A pull request that was made before its content is a draft until it is opened."""
    if api_of(at).get_discussion_details(repo, number).status == "draft":
        api_of(at).change_discussion_status(repo, number, "open")


@tasks("create_pr and merge: small and large files", moves=True)
def pull_request(at: Place) -> None:
    from huggingface_hub import CommitOperationAdd

    api, repo, data = api_of(at), new_repo(at, {"a.txt": b"a"}), weights(500_000)
    operations = [CommitOperationAdd("a.txt", b"b"), CommitOperationAdd("w.safetensors", data)]
    commit = api.create_commit(repo, operations, commit_message="Change", create_pr=True)
    assert commit.pr_revision == f"refs/pr/{commit.pr_num}" and commit.pr_url.endswith(f"/discussions/{commit.pr_num}")
    assert read(at, repo, "a.txt") == b"a"
    assert read(at, repo, "a.txt", revision=commit.pr_revision) == b"b"
    assert read(at, repo, "w.safetensors", revision=commit.pr_revision) == data
    details = api.get_discussion_details(repo, commit.pr_num)
    assert details.is_pull_request and details.diff and not details.conflicting_files
    opened(at, repo, commit.pr_num)
    api.merge_pull_request(repo, commit.pr_num)
    assert read(at, repo, "a.txt") == b"b" and read(at, repo, "w.safetensors") == data
    assert api.get_discussion_details(repo, commit.pr_num).status == "merged"
    assert api.get_discussion_details(repo, commit.pr_num).merge_commit_oid


@tasks("a reader's upload_folder as a pull request; more commits on it; a writer merges it", moves=True)
def folder_as_pull_request(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    api, reader, repo = api_of(at), api_of(at, "rita"), new_repo(at, {"a.txt": b"a"})
    source = model_folder(at.folder / "model", 300_000)
    commit = reader.upload_folder(repo_id=repo, folder_path=source, create_pr=True)
    number = next(d.num for d in api.get_repo_discussions(repo) if d.is_pull_request)
    assert commit.pr_num in (None, number)
    revision = f"refs/pr/{number}"
    reader.upload_file(path_or_fileobj=b"n", path_in_repo="n.txt", repo_id=repo, revision=revision)
    assert {"config.json", "n.txt"} <= set(api.list_repo_files(repo, revision=revision))
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [p.ref for p in refs.pull_requests] == [revision]
    opened(at, repo, number)
    with raises(HfHubHTTPError, exactly=False, says="403"):
        reader.merge_pull_request(repo, number)
    api.merge_pull_request(repo, number)
    back = digests(Path(api.snapshot_download(repo, local_dir=at.folder / "back")))
    assert digests(source).items() <= back.items() and "n.txt" in back


@tasks("a conflicting pull request names its files and is not merged")
def conflict(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    api, repo = api_of(at), new_repo(at, {"a.txt": b"a"})
    change = {"path_in_repo": "a.txt", "repo_id": repo}
    number = api.upload_file(path_or_fileobj=b"theirs", create_pr=True, **change).pr_num or 1
    api.upload_file(path_or_fileobj=b"ours", **change)
    assert api.get_discussion_details(repo, number).conflicting_files == ["a.txt"]
    with raises(HfHubHTTPError, exactly=False, says="a.txt"):
        api.merge_pull_request(repo, number)
    assert read(at, repo, "a.txt") == b"ours"


@tasks("discussions: create, comment, edit, rename, close, reopen, hide, list")
def discussions(at: Place) -> None:
    api, repo = api_of(at), new_repo(at)
    made = api.create_discussion(repo, "A question", description="What is it?")
    assert made.num == 1 and not made.is_pull_request and made.author == at.user
    comment = api.comment_discussion(repo, 1, "An answer")
    assert api.edit_discussion_comment(repo, 1, comment.id, "A better answer").content == "A better answer"
    assert api.rename_discussion(repo, 1, "A better question").new_title == "A better question"
    assert api.change_discussion_status(repo, 1, "closed", comment="Done").new_status == "closed"
    api.change_discussion_status(repo, 1, "open")
    api.hide_discussion_comment(repo, 1, comment.id)
    details = api.get_discussion_details(repo, 1)
    assert details.title == "A better question" and details.status == "open"
    kinds = [event.type for event in details.events]
    assert kinds[0] == "comment" and {"title-change", "status-change"} <= set(kinds), kinds
    assert next(e for e in details.events if e.id == comment.id).hidden
    api.create_pull_request(repo, "A draft")
    assert [d.num for d in api.get_repo_discussions(repo, discussion_type="discussion")] == [1]
    assert [d.num for d in api.get_repo_discussions(repo, discussion_type="pull_request")] == [2]
    assert {d.num for d in api.get_repo_discussions(repo, author=at.user)} == {1, 2}
    assert list(api.get_repo_discussions(repo, discussion_status="closed")) == []


@tasks("upload_attachment")
def attachment(at: Place) -> None:
    import base64

    upload = needs(api_of(at), "upload_attachment")
    picture = at.folder / "dot.png"
    picture.write_bytes(
        base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
    )
    assert upload(picture).startswith("http")


@tasks("collections: create, items, notes, order, update, list, delete")
def collections(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    api, first, second = api_of(at), new_repo(at), new_repo(at)
    title = f"Best of {at.client} {at.number}"
    made = api.create_collection(title, description="Models", namespace=at.user)
    assert made.slug.startswith(f"{at.user}/") and made.title == title
    again = api.create_collection(title, namespace=at.user, exists_ok=True)
    assert again.slug == made.slug
    api.add_collection_item(made.slug, first, "model", note="the first")
    api.add_collection_item(made.slug, second, "model")
    api.add_collection_item(made.slug, second, "model", exists_ok=True)
    with raises(HfHubHTTPError, exactly=False, says="409"):
        api.add_collection_item(made.slug, second, "model")
    items = api.get_collection(made.slug).items
    assert [(i.item_id, i.note) for i in items] == [(first, "the first"), (second, None)]
    api.update_collection_item(made.slug, items[1].item_object_id, note="the second", position=0)
    assert [i.item_id for i in api.get_collection(made.slug).items] == [second, first]
    api.delete_collection_item(made.slug, items[0].item_object_id)
    assert [i.note for i in api.get_collection(made.slug).items] == ["the second"]
    changed = api.update_collection_metadata(
        made.slug, title=f"Better {at.client}", description="Fewer", private=True, theme="green"
    )
    assert changed.title == f"Better {at.client}" and changed.private
    slug = changed.slug
    assert slug in {c.slug for c in api.list_collections(owner=at.user)}
    assert slug in {c.slug for c in api.list_collections(owner=at.user, item=f"models/{second}")}
    with raises(HfHubHTTPError, exactly=False, says="404"):
        api_of(at, "rita").get_collection(slug)
    api.delete_collection(slug)
    api.delete_collection(slug, missing_ok=True)


@tasks("webhooks: create, get, list, update, disable, enable, delete")
def webhooks(at: Place) -> None:
    api, repo = api_of(at), new_repo(at)
    watched = [{"type": "model", "name": repo}]
    made = api.create_webhook(
        url=at.webhook, watched=watched, domains=["repo", "discussion"], secret="a-secret-of-ours"
    )
    assert made.url == at.webhook and made.watched[0].name == repo and not made.disabled
    assert api.get_webhook(made.id).id == made.id and made.id in {w.id for w in api.list_webhooks()}
    assert api.update_webhook(made.id, domains=["repo"]).domains == ["repo"]
    assert api.disable_webhook(made.id).disabled
    assert not api.enable_webhook(made.id).disabled
    api.delete_webhook(made.id)
    assert made.id not in {w.id for w in api.list_webhooks()}


@tasks("likes: list, likers, unlike")
def likes(at: Place) -> None:
    import urllib.request

    api, repo = api_of(at), new_repo(at)
    headers = {"authorization": f"Bearer {at.tokens['will']}"}
    like = urllib.request.Request(f"{at.url}/api/models/{repo}/like", headers=headers, method="POST")
    urllib.request.urlopen(like).close()
    assert [u.username for u in api.list_repo_likers(repo)] == [at.user]
    assert repo in api.list_liked_repos(at.user).models and api.repo_info(repo).likes == 1
    api.unlike(repo)
    assert list(api.list_repo_likers(repo)) == [] and api.repo_info(repo).likes == 0

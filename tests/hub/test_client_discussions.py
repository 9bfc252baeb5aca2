"""The installed huggingface_hub talks, proposes and merges against this hub; a reader's token is enough to propose."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def reader(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    return HfApi(endpoint=server.url, token="ect_reader")


def folder_of(at: Path, size: int = 400_000) -> Path:
    """A folder with small files and one that travels by Xet."""
    (at / "sub").mkdir(parents=True)
    (at / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Better\n")
    (at / "sub" / "notes.txt").write_text("notes\n")
    (at / "weights.bin").write_bytes(os.urandom(size))
    return at


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_discussion_as_the_library_holds_it(api: Any, reader: Any, repo_type: str) -> None:
    repo = f"client/talk-{repo_type}"
    api.create_repo(repo, repo_type=repo_type, space_sdk="static" if repo_type == "space" else None)
    where: dict[str, Any] = {"repo_id": repo, "repo_type": repo_type}
    made = reader.create_discussion(title="A question 🌊", description="Why?", **where)
    assert (made.num, made.status, made.author, made.is_pull_request) == (1, "open", "rita", False)
    said = reader.comment_discussion(discussion_num=1, comment="first", **where)
    edited = reader.edit_discussion_comment(discussion_num=1, comment_id=said.id, new_content="second", **where)
    assert (edited.content, edited.edited, edited.number_of_edits, edited.last_edited_by) == ("second", True, 1, "rita")
    assert edited.last_edited_at >= said.created_at and "second" in edited.rendered
    renamed = reader.rename_discussion(discussion_num=1, new_title="Renamed", **where)
    assert (renamed.old_title, renamed.new_title) == ("A question 🌊", "Renamed")
    hidden = api.hide_discussion_comment(discussion_num=1, comment_id=said.id, **where)
    assert hidden.hidden and "second" not in hidden.content
    closed = reader.change_discussion_status(discussion_num=1, new_status="closed", comment="bye", **where)
    assert closed.new_status == "closed"
    details = api.get_discussion_details(discussion_num=1, **where)
    kinds = [type(event).__name__ for event in details.events]
    assert kinds == [
        "DiscussionComment", "DiscussionComment", "DiscussionTitleChange", "DiscussionComment",
        "DiscussionStatusChange",
    ]  # fmt: skip
    assert (details.title, details.status, details.diff, details.conflicting_files) == ("Renamed", "closed", None, None)
    for number in range(60):
        reader.create_discussion(title=f"More {number}", description="x", **where)
    listed = list(api.get_repo_discussions(**where))
    assert [d.num for d in listed] == list(range(61, 0, -1)) and listed[0].author == "rita"
    assert [d.num for d in api.get_repo_discussions(discussion_status="closed", **where)] == [1]
    assert list(api.get_repo_discussions(discussion_type="pull_request", **where)) == []
    assert len(list(api.get_repo_discussions(author="rita", discussion_status="open", **where))) == 60


def test_a_pull_request_as_the_library_makes_and_merges_it(api: Any, reader: Any) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    repo = "client/pulls"
    api.create_repo(repo)
    api.upload_file(path_or_fileobj=b"# One\n", path_in_repo="README.md", repo_id=repo)
    with pytest.raises(HfHubHTTPError, match="--create-pr"):
        reader.upload_file(path_or_fileobj=b"# Two\n", path_in_repo="README.md", repo_id=repo)
    request = reader.create_pull_request(repo, title="Draft", description="soon")
    assert (request.status, request.git_reference, request.target_branch) == ("draft", "refs/pr/1", "refs/heads/main")
    assert (request.conflicting_files, request.merge_commit_oid, request.diff) == ([], None, "")
    done = reader.upload_file(
        path_or_fileobj=b"# Two\n", path_in_repo="README.md", repo_id=repo, revision=request.git_reference
    )
    assert done.pr_url is None and len(done.oid) == 40
    reader.change_discussion_status(repo, 1, "open")
    with pytest.raises(HfHubHTTPError, match="may only read"):
        reader.merge_pull_request(repo, 1)
    api.upload_file(path_or_fileobj=b"# Three\n", path_in_repo="README.md", repo_id=repo)
    assert api.get_discussion_details(repo, 1).conflicting_files == ["README.md"]
    with pytest.raises(HfHubHTTPError, match=r"409[\s\S]*README.md"):
        api.merge_pull_request(repo, 1)
    reader.upload_file(
        path_or_fileobj=b"# Three\n", path_in_repo="README.md", repo_id=repo, revision=request.git_reference
    )
    reader.upload_file(path_or_fileobj=b"x", path_in_repo="new.txt", repo_id=repo, revision=request.git_reference)
    api.merge_pull_request(repo, 1, comment="Thanks")
    details = api.get_discussion_details(repo, 1)
    assert details.status == "merged" and details.merge_commit_oid == api.model_info(repo).sha
    assert details.events[-1].new_status == "merged" and details.events[-2].content == "Thanks"
    assert api.list_repo_refs(repo, include_pull_requests=True).pull_requests[0].ref == "refs/pr/1"
    assert set(api.list_repo_files(repo)) == {".gitattributes", "README.md", "new.txt"}


def test_files_sent_as_a_pull_request(api: Any, reader: Any, tmp_path: Path) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, hf_hub_download

    repo = "client/proposals"
    api.create_repo(repo)
    first = api.upload_file(path_or_fileobj=b"old", path_in_repo="old.txt", repo_id=repo)
    one = reader.upload_file(
        path_or_fileobj=b"new", path_in_repo="new.txt", repo_id=repo, create_pr=True, commit_message="One file"
    )
    assert one.pr_num == 1 and one.pr_revision == "refs/pr/1" and one.pr_url.endswith(f"/{repo}/discussions/1")
    big = os.urandom(300_000)
    two = reader.upload_file(path_or_fileobj=big, path_in_repo="big.bin", repo_id=repo, create_pr=True)
    assert two.pr_num == 2
    operations = [CommitOperationAdd("a.txt", b"a"), CommitOperationDelete("old.txt")]
    api.upload_file(path_or_fileobj=b"later", path_in_repo="later.txt", repo_id=repo)
    three = reader.create_commit(
        repo, operations, commit_message="From before", create_pr=True, parent_commit=first.oid
    )
    assert "later.txt" not in api.list_repo_files(repo, revision=three.pr_revision)
    folder = folder_of(tmp_path / "model")
    four = reader.upload_folder(repo_id=repo, folder_path=folder, create_pr=True, commit_message="A folder")
    assert four.pr_url.endswith("/discussions/4")
    assert api.get_discussion_details(repo, 4).status == "draft"
    found = hf_hub_download(
        repo, "weights.bin", revision="refs/pr/4", endpoint=api.endpoint, token="ect_reader", local_dir=tmp_path / "b"
    )
    assert Path(found).read_bytes() == (folder / "weights.bin").read_bytes()
    api.change_discussion_status(repo, 4, "open")
    for num in (1, 2, 3, 4):
        api.merge_pull_request(repo, num)
    assert set(api.list_repo_files(repo)) == {
        ".gitattributes", "new.txt", "big.bin", "a.txt", "later.txt", "README.md", "sub/notes.txt", "weights.bin",
    }  # fmt: skip
    found = hf_hub_download(repo, "big.bin", endpoint=api.endpoint, token=False, local_dir=tmp_path / "c")
    assert Path(found).read_bytes() == big
    titles = [commit.title for commit in api.list_repo_commits(repo)]
    assert titles[:4] == [
        "A folder (#4)",
        "From before (#3)",
        "Upload big.bin with huggingface_hub (#2)",
        "One file (#1)",
    ]


def test_a_picture_is_attached(api: Any, reader: Any, tmp_path: Path) -> None:
    from tests.hub.test_discussions import PNG

    picture = tmp_path / "plot.png"
    picture.write_bytes(PNG)
    url = reader.upload_attachment(picture)
    assert url.startswith(api.endpoint + "/uploads/") and url.endswith(".png")

"""The installed huggingface_hub, unmodified, does its daily work against this hub."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    at = tmp_path / "model"
    (at / "sub").mkdir(parents=True)
    header = b'{"w":{"dtype":"F32","shape":[64,64],"data_offsets":[0,16384]}}'
    (at / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(256)) * 64)
    (at / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    (at / "sub" / "notes é.txt").write_text("hello")
    (at / "README.md").write_text("---\nlicense: apache-2.0\ntags: [client]\n---\n# A model\n")
    return at


@pytest.mark.parametrize("repo_type", ["model", "dataset"])
def test_upload_look_download_delete(
    server: SimpleNamespace, api: Any, folder: Path, tmp_path: Path, repo_type: str
) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    name = f"client/full-{repo_type}"
    url = api.create_repo(name, repo_type=repo_type)
    assert url.repo_id == name
    assert api.create_repo(name, repo_type=repo_type, exist_ok=True).repo_id == name
    done = api.upload_folder(repo_id=name, folder_path=folder, repo_type=repo_type, commit_message="First")
    assert len(done.oid) == 40
    local = snapshot_download(
        name, repo_type=repo_type, endpoint=server.url, token="ect_admin", local_dir=tmp_path / "down"
    )
    for file in (f for f in folder.rglob("*") if f.is_file()):
        assert (Path(local) / file.relative_to(folder)).read_bytes() == file.read_bytes()
    info = api.repo_info(name, repo_type=repo_type, files_metadata=True)
    assert info.sha == done.oid and {s.rfilename for s in info.siblings} >= {"README.md", "sub/notes é.txt"}
    listed = api.list_models(search="full-") if repo_type == "model" else api.list_datasets(search="full-")
    assert name in [m.id for m in listed]
    found = api.get_paths_info(name, ["model.safetensors", "sub", "none"], repo_type=repo_type, expand=True)
    assert [f.path for f in found] == ["model.safetensors", "sub"] and found[0].lfs.sha256
    assert {f.path for f in api.list_repo_tree(name, recursive=True, repo_type=repo_type)} >= {"sub", "config.json"}
    assert next(iter(api.list_repo_commits(name, repo_type=repo_type))).title == "First"
    api.create_branch(name, branch="dev", repo_type=repo_type)
    api.create_tag(name, tag="v1", repo_type=repo_type)
    refs = api.list_repo_refs(name, repo_type=repo_type)
    assert {b.name for b in refs.branches} == {"main", "dev"} and refs.tags[0].target_commit == done.oid
    api.delete_file("config.json", name, repo_type=repo_type)
    assert not api.file_exists(name, "config.json", repo_type=repo_type)
    assert api.file_exists(name, "config.json", repo_type=repo_type, revision="v1")
    api.delete_repo(name, repo_type=repo_type)
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(name, repo_type=repo_type)
    api.delete_repo(name, repo_type=repo_type, missing_ok=True)


def test_what_the_info_tells(api: Any, folder: Path) -> None:
    api.create_repo("client/info")
    api.upload_folder(repo_id="client/info", folder_path=folder)
    info = api.model_info("client/info")
    assert info.safetensors.total == 4096 and info.library_name == "transformers" and info.author == "client"
    assert info.card_data.license == "apache-2.0" and info.config["model_type"] == "bert"
    assert api.whoami()["name"] == "ecotone"
    api.auth_check("client/info")
    api.update_repo_settings("client/info", visibility="private")
    assert api.model_info("client/info").private


def test_a_refusal_is_what_the_client_prints(api: Any, tmp_path: Path) -> None:
    api.create_repo("client/refused")
    at = tmp_path / "README.md"
    at.write_text("---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b\n---\n# Mine\n")
    with pytest.raises(ValueError, match=r"Llama 2.*1\.b\.i"):
        api.upload_file(path_or_fileobj=at, path_in_repo="README.md", repo_id="client/refused")
    assert not api.file_exists("client/refused", "README.md")

"""Duties: what is written is complete, and whatever is taken away or damaged is named."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecotone.cli.main import app
from tests.licences.duties_cases import CASES, duties, made, text


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_found_complete_and_each_part_is_missed(name: str, shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES[name], tmp_path)
    out = tmp_path / "out"
    written = duties(folder, "--parent", f"{CASES[name].parent}={parent}", "--write", out)
    assert written.status == 0 and written.told["missing"] == []
    verify = (folder, "--parent", f"{CASES[name].parent}={parent}", "--verify", out)
    whole = duties(*verify)
    assert (whole.status, whole.told["missing"], whole.told["unknown"]) == (0, [], [])
    parts = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != "duties.json")
    assert parts
    for part in parts:
        kept = (out / part).read_bytes()
        (out / part).unlink()
        gone = duties(*verify)
        assert (gone.status, gone.missing) == (4, {part}), f"without {part}"
        assert all(m["clause"] and m["todo"] and m["what"] for m in gone.told["missing"])
        (out / part).write_bytes(kept[: len(kept) // 2 if part.startswith("LICENSES/") else 12])
        damaged = duties(*verify)
        assert (damaged.status, damaged.missing) == (4, {part}), f"only the beginning of {part}"
        (out / part).write_bytes(kept)
    assert duties(*verify).status == 0


def card(folder: Path, front: str, licence: str | None = None) -> Path:
    """A folder that holds a card, and a licence file where its text is given."""
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    if licence is not None:
        (folder / "LICENSE").write_text(licence)
    return folder


def test_a_card_and_a_licence_file_are_enough_for_a_model_of_the_starter_catalogue(
    shared: Path, tmp_path: Path
) -> None:
    front = "license: llama3.1\nbase_model: meta-llama/Llama-3.1-8B"
    folder = card(tmp_path / "Llama-support", front, text(shared, CASES["llama-3.1"].text))
    listed = duties(folder)
    assert listed.status == 0 and listed.of("include_licence")["status"] == "done"
    assert listed.missing == {"NOTICE", "README.md"}
    assert duties(folder, "--verify", folder).status == 4
    assert duties(folder, "--write", tmp_path / "out").told["status"] == "complete"
    assert duties(folder, "--verify", tmp_path / "out").status == 0
    assert duties("--verify", tmp_path / "out", "--name", "Llama-support").status == 0
    notice = (tmp_path / "out" / "NOTICE").read_text()
    assert "Llama 3.1 is licensed under the Llama 3.1 Community License" in notice
    assert "**Built with Llama**" in (tmp_path / "out" / "README.md").read_text()


def test_writing_into_the_model_itself_twice_changes_nothing_and_keeps_what_the_user_wrote(
    shared: Path, tmp_path: Path
) -> None:
    folder, parent = made(shared, CASES["gemma"], tmp_path)
    (folder / "NOTICE").write_text("My own notice.\n")
    (folder / "CHANGES.md").write_text("# What I did\n")
    first = duties(folder, "--parent", parent, "--write", folder)
    assert first.told["written"] and first.told["missing"] == []
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert duties(folder, "--parent", parent, "--write", folder).told["written"] == []
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert (folder / "NOTICE").read_text().startswith("My own notice.\n\nGemma is provided")
    assert (folder / "CHANGES.md").read_text().startswith("# What I did\n\n<!--")
    assert not (folder / "LICENSES").exists(), "the text lies in LICENSE already"


def test_a_tag_without_the_text_is_named_with_where_to_get_the_text(tmp_path: Path) -> None:
    folder = card(tmp_path / "support", "license: llama3.1")
    written = duties(folder, "--write", tmp_path / "out")
    (missing,) = [m for m in written.told["missing"] if m["duty"] == "include_licence"]
    assert (missing["clause"], missing["where"]) == ("1.b.i(A)", "LICENSES/llama-3.1.txt")
    assert "meta-llama/llama-models" in missing["todo"]
    assert not (tmp_path / "out" / "LICENSES").exists(), "a text was invented"
    assert duties(folder, "--verify", tmp_path / "out").status == 4


def test_the_copyright_line_of_a_parent_under_the_same_licence_is_missed(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["mit"], tmp_path)
    mine = (folder / "LICENSE").read_text().replace("DeepSeek", "Me")
    (folder / "LICENSE").write_text(mine)
    alone = duties(folder, "--parent", parent, "--verify", folder)
    (missing,) = [m for m in alone.told["missing"] if m["duty"] == "include_copyright"]
    assert "DeepSeek" in missing["todo"]
    duties(folder, "--parent", parent, "--write", tmp_path / "out")
    texts = sorted(p.read_text() for p in (tmp_path / "out" / "LICENSES").iterdir())
    assert len(texts) == 2 and any("Me" in t for t in texts) and any("DeepSeek" in t for t in texts)
    assert duties(folder, "--parent", parent, "--verify", tmp_path / "out").status == 0


@pytest.mark.parametrize(
    ("licence", "name", "kept"),
    [
        ("llama3.1", "support-Llama-8B", False),
        ("llama3.1", "llama-support", False),
        ("llama3.1", "acme/Llama-support", True),
        ("llama3.1", "Llama/support", False),
        ("llama3", "Llama-3-support", False),
        ("llama3", "Llama 3 support", True),
    ],
)
def test_the_name_begins_as_the_text_says_and_as_it_is_written(
    licence: str, name: str, kept: bool, tmp_path: Path
) -> None:
    folder = card(tmp_path / "x", f"license: {licence}\nbase_model: acme/base")
    answer = duties(folder, "--name", name, "--parent", f"acme/base={licence}")
    assert answer.of("name_prefix")["status"] == ("done" if kept else "open")


def test_no_name_satisfies_two_parents_that_each_want_their_own(tmp_path: Path) -> None:
    folder = card(tmp_path / "Llama-merge", "license: other\nbase_model: [a/one, b/two]\nbase_model_relation: merge")
    parents = ("--parent", "a/one=llama3.1", "--parent", "b/two=hyperclova-x-seed-2025")
    names = [d for d in duties(folder, *parents, "--name", folder.name).told["duties"] if d["duty"] == "name_prefix"]
    assert {(d["text"], d["status"]) for d in names} == {("Llama", "done"), ("HyperCLOVA X", "open")}
    assert "leave one of the parents out" in next(d["todo"] for d in names if d["status"] == "open")
    assert "name" in duties(folder, *parents).missing, "whatever the model is called, one of the two is not kept"


@pytest.mark.parametrize("name", ["checkpoint-500", "Llama-x"])
def test_what_a_folder_is_called_is_no_name_of_a_model(name: str, shared: Path, tmp_path: Path) -> None:
    front = "license: llama3.1\nbase_model: meta-llama/Llama-3.1-8B"
    folder = card(tmp_path / name, front, text(shared, CASES["llama-3.1"].text))
    duties(folder, "--write", folder)
    unnamed = duties(folder, "--verify", folder)
    assert (unnamed.status, unnamed.of("name_prefix")["status"]) == (0, "cannot_be_checked")
    assert "--name" in unnamed.of("name_prefix")["todo"] and name in unnamed.of("name_prefix")["reason"]
    assert duties(folder, "--verify", folder, "--name", "Llama-support").status == 0
    assert duties(folder, "--verify", folder, "--name", "support").missing == {"name"}
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("---\n", "---\nmodel_name: support\n", 1))
    assert duties(folder, "--verify", folder).missing == {"name"}, "the card's own name is one"


def test_what_is_only_encouraged_is_no_duty(tmp_path: Path) -> None:
    folder = card(tmp_path / "mesh", "license: other\nbase_model: tencent/Hunyuan3D-2")
    answer = duties(folder, "--parent", "tencent/Hunyuan3D-2=tencent-hunyuan-3d-2.0")
    assert "notice_file" in answer.duties and "display_text" not in answer.duties
    assert not [d for d in answer.told["duties"] if d["text"] and "Powered by" in d["text"]]


def test_a_derivative_of_an_nvidia_model_owes_no_notice_and_a_copy_does(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["nvidia"], tmp_path)
    assert "notice_file" not in duties(folder, "--parent", parent).duties
    assert "notice_file" in duties(parent).duties


def test_a_label_that_may_not_stand_is_missing_with_the_clause(tmp_path: Path) -> None:
    folder = card(tmp_path / "Llama-x", "license: mit\nbase_model: meta-llama/Llama-3.1-8B")
    answer = duties(folder, "--verify", folder)
    (label,) = [m for m in answer.told["missing"] if m["duty"] == "declared_licence"]
    assert (answer.status, label["where"], label["entry"]) == (4, "README.md", "llama-3.1")
    assert label["clause"] and "llama3.1" in label["todo"]


def test_a_parent_that_nobody_knows_keeps_the_bundle_from_being_complete(shared: Path, tmp_path: Path) -> None:
    front = "license: llama3.1\nbase_model: somebody/secret"
    folder = card(tmp_path / "Llama-x", front, text(shared, CASES["llama-3.1"].text))
    duties(folder, "--write", tmp_path / "out")
    answer = duties(folder, "--verify", tmp_path / "out")
    assert (answer.status, answer.told["missing"]) == (5, [])
    assert [u["node"] for u in answer.told["unknown"]] == ["somebody/secret"]
    assert "name_prefix" in answer.duties, "what the card itself says is owed all the same"
    assert duties(folder, "--parent", "somebody/secret=llama3.1", "--verify", tmp_path / "out").status == 0


def test_a_text_that_differs_in_a_clause_is_not_the_text(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["llama-3.1"], tmp_path)
    duties(folder, "--parent", parent, "--write", tmp_path / "out")
    file = tmp_path / "out" / "LICENSES" / "llama-3.1.txt"
    other = file.read_text()
    file.write_text(other[: other.index("6. Term and Termination")])
    answer = duties(folder, "--parent", parent, "--verify", tmp_path / "out")
    (missing,) = answer.told["missing"]
    assert (answer.status, missing["where"]) == (4, "LICENSES/llama-3.1.txt")
    assert "LICENSES/llama-3.1.txt is not that text" in missing["reason"]
    file.write_text(text(shared, CASES["llama-3"].text))
    assert duties(folder, "--parent", parent, "--verify", tmp_path / "out").missing == {"LICENSES/llama-3.1.txt"}


def test_a_served_model_shows_its_line_on_the_page_and_not_only_in_a_file(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["llama-3.1"], tmp_path)
    use = ("--mode", "serve_api", "--parent", parent)
    written = duties(folder, *use, "--write", tmp_path / "out")
    shown = written.of("display_text")
    assert shown["artefact"] == "UI_STRINGS.md" and "--verify URL" in shown["reason"]
    assert "website, ui" in (tmp_path / "out" / "UI_STRINGS.md").read_text()


def test_a_change_statement_says_what_became_of_each_file(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["apache-with-notice"], tmp_path)
    (folder / "extra.json").write_text("{}")
    duties(folder, "--parent", parent, "--write", tmp_path / "out")
    told = (tmp_path / "out" / "CHANGES.md").read_text()
    assert "modified version of acme/base (finetune)" in told
    assert "changed model.safetensors; added extra.json; the same LICENSE." in told


def test_a_change_of_a_work_that_nobody_named_stays_open(shared: Path, tmp_path: Path) -> None:
    folder = card(tmp_path / "x", "license: apache-2.0", text(shared, CASES["apache-with-notice"].text))
    use = ("--set", "modified=true")
    duties(folder, *use, "--write", tmp_path / "out")
    answer = duties(folder, *use, "--verify", tmp_path / "out")
    assert (answer.status, answer.missing) == (4, {"CHANGES.md"})
    statement = tmp_path / "out" / "CHANGES.md"
    assert "[OPEN:" in statement.read_text()
    by_hand = re.sub(r"\[OPEN:[^\]]*\]", "acme/base, retrained on our mails", statement.read_text())
    statement.write_text(by_hand)
    duties(folder, *use, "--write", tmp_path / "out")
    assert statement.read_text() == by_hand, "what the user filled in was undone"
    assert duties(folder, *use, "--verify", tmp_path / "out").status == 0


def test_a_snapshot_in_the_cache_of_the_hubs_client_is_read_through_its_links(shared: Path, tmp_path: Path) -> None:
    front = "license: llama3.1\nbase_model: meta-llama/Llama-3.1-8B"
    plain = card(tmp_path / "plain", front, text(shared, CASES["llama-3.1"].text))
    snapshot, blobs = tmp_path / "repo" / "snapshots" / "abc", tmp_path / "repo" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in plain.iterdir():
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(blobs / file.name)
    answer = duties(snapshot, "--name", "Llama-x")
    assert answer.of("include_licence")["status"] == "done" and answer.told["unknown"] == []


def test_an_adapter_owes_what_its_base_asks_though_the_card_names_no_base(tmp_path: Path) -> None:
    folder = card(tmp_path / "adapter", "license: llama3.1")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "meta-llama/Llama-3.1-8B"}')
    written = duties(folder, "--name", "adapter", "--write", tmp_path / "out")
    assert written.of("name_prefix")["status"] == "open"
    told = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: meta-llama/Llama-3.1-8B\nbase_model_relation: adapter\n" in told


def test_data_of_unknown_licence_is_a_possible_duty(tmp_path: Path) -> None:
    folder = card(tmp_path / "x", "license: cc0-1.0\ndatasets: [acme/mails]")
    (possible,) = duties(folder).told["possible"]
    assert "acme/mails" in possible["what"]


def test_a_label_is_judged_as_the_card_shows_it_whatever_the_licence_file_holds(shared: Path, tmp_path: Path) -> None:
    front = "license: mit\nbase_model: meta-llama/Llama-3.1-8B"
    folder = card(tmp_path / "Llama-x", front, text(shared, CASES["llama-3.1"].text))
    assert "declared_licence" in {m["duty"] for m in duties(folder).told["missing"]}


@pytest.mark.parametrize("front", ["{license: mit}", "license: mit\nx: {a: [1,\n  2]}", "license: [mit, apache-2.0]"])
def test_a_card_in_another_style_of_yaml_is_not_broken(front: str, tmp_path: Path) -> None:
    folder = card(tmp_path / "x", front)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base"}')
    duties(folder, "--write", tmp_path / "out")
    (tmp_path / "out" / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    assert duties(tmp_path / "out").status == 0


def test_a_label_that_stands_for_several_versions_asks_only_for_that_of_the_parent(tmp_path: Path) -> None:
    folder = card(tmp_path / "x", "license: gemma\nbase_model: google/gemma-2-9b")
    answer = duties(folder)
    assert {d["entry"] for d in answer.told["duties"]} == {"gemma-terms-2024-04-01"}


def test_a_use_that_is_denied_says_why_beside_the_duties(tmp_path: Path) -> None:
    folder = card(tmp_path / "x", "license: cc-by-nc-4.0")
    answer = duties(folder)
    assert answer.told["verdict"] == "deny" and {r["entry"] for r in answer.told["reasons"]} == {"CC-BY-NC-4.0"}
    assert duties(folder, "--purpose", "research").told["verdict"] == "allow_with_duties"


def test_a_copy_that_lacks_one_paragraph_of_the_original_is_found_out(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["bigcode"], tmp_path)
    duties(folder, "--parent", parent, "--write", tmp_path / "out")
    file = tmp_path / "out" / "LICENSES" / "bigcode-openrail-m-1.txt"
    paragraphs = file.read_text().split("\n\n")
    cut = next(p for p in paragraphs if p.strip().startswith("(d) To generate or disseminate verifiably false"))
    file.write_text("\n\n".join(p for p in paragraphs if p != cut))
    (missing,) = duties(folder, "--parent", parent, "--verify", tmp_path / "out").told["missing"]
    assert missing["duty"] == "include_licence" and "'(d) To generate" in missing["reason"]
    file.write_text("\r\n".join("\n\n".join(paragraphs).split()), newline="")
    assert duties(folder, "--parent", parent, "--verify", tmp_path / "out").status == 0, "only the white space differs"


def test_the_example_of_the_documentation_is_what_the_command_prints(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = "license: llama3.1\nbase_model: meta-llama/Llama-3.1-8B"
    card(tmp_path / "Llama-3.1-support", front, text(shared, CASES["llama-3.1"].text))
    monkeypatch.chdir(tmp_path)
    told = (Path(__file__).parents[2] / "docs" / "lineage.md").read_text()
    for arguments in (["--write", "bundle"], ["--verify", "bundle"]):
        done = CliRunner().invoke(app, ["licence", "duties", "Llama-3.1-support", *arguments])
        lines = [line for line in done.stdout.splitlines() if not line.startswith("knowledge base")]
        assert "\n".join(lines) in told, done.stdout
        (tmp_path / "bundle" / "NOTICE").unlink(missing_ok=True)

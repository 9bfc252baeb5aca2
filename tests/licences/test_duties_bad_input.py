"""Duties of folders that were tampered with or cannot be read: a finding or a sentence, never a crash."""

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.licences.duties_cases import CASES, duties, made
from tests.serving import Serving


@pytest.fixture
def case(shared: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A Llama model, its parent, and the bundle that was written for it."""
    folder, parent = made(shared, CASES["llama-3.1"], tmp_path)
    assert duties(folder, "--parent", parent, "--write", tmp_path / "out").status == 0
    return folder, parent, tmp_path / "out"


def test_a_forged_document_hides_nothing(case: tuple[Path, Path, Path]) -> None:
    folder, parent, out = case
    (out / "NOTICE").unlink()
    told = json.loads((out / "duties.json").read_text())
    forged = {**told, "status": "complete", "missing": [], "duties": [], "family": {"nodes": [], "edges": []}}
    (out / "duties.json").write_text(json.dumps(forged))
    assert duties(folder, "--parent", parent, "--verify", out).missing == {"NOTICE"}
    assert duties("--verify", out, "--name", "Llama-3.1-support").missing == {"NOTICE"}
    for junk in ('{"duties": [{"artefact": "../../etc/passwd"}]}', "[" * 100_000, "\0"):
        (out / "duties.json").write_text(junk)
        assert duties(folder, "--parent", parent, "--verify", out).missing == {"NOTICE"}


def test_a_link_out_of_the_bundle_is_no_text_and_is_not_written_through(case: tuple[Path, Path, Path]) -> None:
    folder, parent, out = case
    text = out / "LICENSES" / "llama-3.1.txt"
    outside = out.parent / "outside.txt"
    outside.write_bytes(text.read_bytes())
    text.unlink()
    text.symlink_to(outside)
    assert duties(folder, "--parent", parent, "--verify", out).missing == {"LICENSES/llama-3.1.txt"}
    before = outside.read_bytes()
    for name in ("NOTICE", "README.md", "duties.json"):
        (out / name).unlink()
        (out / name).symlink_to(outside)
        refused = duties(folder, "--parent", parent, "--write", out, "--force")
        assert refused.status == 2 and "is a link" in refused.errors
        (out / name).unlink()
    assert outside.read_bytes() == before


def test_a_text_that_was_blown_up_is_replaced_and_not_read(case: tuple[Path, Path, Path]) -> None:
    folder, parent, out = case
    text = out / "LICENSES" / "llama-3.1.txt"
    before = text.read_bytes()
    os.truncate(text, 1 << 42)  # sparse: it takes no room
    assert duties(folder, "--parent", parent, "--write", out).status == 2
    assert duties(folder, "--parent", parent, "--write", out, "--force").status == 0
    assert text.read_bytes() == before


def test_a_folder_of_texts_that_leads_elsewhere_is_not_written_into(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["llama-3.1"], tmp_path)
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "LICENSES").symlink_to(elsewhere)
    refused = duties(folder, "--parent", parent, "--write", out)
    assert refused.status == 2 and not list(elsewhere.iterdir())
    assert [p.name for p in out.iterdir()] == ["LICENSES"], "something was written before the refusal"


def test_a_file_of_the_user_is_replaced_only_with_force_and_then_nothing_half(case: tuple[Path, Path, Path]) -> None:
    folder, parent, out = case
    text = out / "LICENSES" / "llama-3.1.txt"
    text.write_text("mine")
    (out / "NOTICE").unlink()
    refused = duties(folder, "--parent", parent, "--write", out)
    assert refused.status == 2 and "--force" in refused.errors and "LICENSES/llama-3.1.txt" in refused.errors
    assert text.read_text() == "mine" and not (out / "NOTICE").exists()
    assert duties(folder, "--parent", parent, "--write", out, "--force").told["missing"] == []
    assert not list(out.rglob(".*")), "a file of the writing was left behind"


def test_a_huge_a_binary_and_an_unreadable_licence_are_no_text(case: tuple[Path, Path, Path]) -> None:
    folder, parent, out = case
    text = out / "LICENSES" / "llama-3.1.txt"
    with text.open("wb") as file:
        file.truncate(1 << 30)
    (missing,) = duties(folder, "--parent", parent, "--verify", out).told["missing"]
    assert "1,073,741,824 bytes" in missing["reason"]
    text.write_bytes(bytes(range(256)) * 40)
    (missing,) = duties(folder, "--parent", parent, "--verify", out).told["missing"]
    assert "binary" in missing["reason"]
    text.unlink()
    text.mkdir()
    assert duties(folder, "--parent", parent, "--verify", out).missing == {"LICENSES/llama-3.1.txt"}


def test_a_binary_notice_is_not_continued(case: tuple[Path, Path, Path]) -> None:
    folder, parent, out = case
    (out / "NOTICE").write_bytes(bytes(range(256)))
    refused = duties(folder, "--parent", parent, "--write", out)
    assert refused.status == 2 and "binary" in refused.errors
    assert duties(folder, "--parent", parent, "--verify", out).missing == {"NOTICE"}


def test_what_cannot_be_read_is_a_sentence_and_status_2(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "README.md").write_text("---\nlicense: [\n---\n")
    assert "front matter" in duties(broken).errors
    (broken / "README.md").write_bytes(bytes(range(256)) * 10)
    assert duties(broken).status == 2
    for arguments in ((tmp_path / "absent",), ("absent",), (), ("--verify", tmp_path / "absent")):
        answer = duties(*arguments)
        assert answer.status == 2 and answer.errors.startswith("ecotone: ")
    (broken / "README.md").write_text("---\nlicense: mit\n---\n")
    assert "--parent" in duties(broken, "--parent", "nowhere").errors
    assert duties(broken, "--write", broken / "README.md").status == 2
    if os.geteuid() != 0:
        broken.chmod(0)
        assert duties(broken).status == 2
        broken.chmod(0o700)


def test_names_in_any_script_are_written_and_found(shared: Path, tmp_path: Path) -> None:
    folder, parent = made(shared, CASES["apache-with-notice"], tmp_path)
    theirs = "acme/модель-模型"
    (folder / "README.md").write_text(f'---\nlicense: apache-2.0\nbase_model: "{theirs}"\n---\n# é\n')
    (parent / "NOTICE").write_text("Работа Acme™ — é")
    there = ("--parent", f"{theirs}={parent}")
    duties(folder, *there, "--write", tmp_path / "büro")
    assert duties(folder, *there, "--verify", tmp_path / "büro").status == 0
    assert theirs in (tmp_path / "büro" / "CHANGES.md").read_text()


PAGES: dict[str, tuple[int, str, bytes]] = {}


class _Site(BaseHTTPRequestHandler):
    """Answers what `PAGES` holds."""

    def do_GET(self) -> None:
        status, kind, body = PAGES.get(self.path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("location" if status == 302 else "content-type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    with Serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def test_a_live_page_shows_the_line_or_is_found_out(shared: Path, tmp_path: Path, site: str) -> None:
    folder, parent = made(shared, CASES["llama-3.1"], tmp_path)
    shown = b"<html><head><title>x</title></head><body><p>Built <b>with</b>\n Llama</p></body></html>"
    hidden = (
        b"<script>'Built with Llama'</script><div style='display: none'>Built with Llama</div><p>Built with Lama</p>"
    )
    PAGES["/good"] = (200, "text/html", shown)
    PAGES["/bad"] = (200, "text/html", hidden)
    PAGES["/moved"] = (302, "/good", b"")
    PAGES["/loop"] = (302, "/loop", b"")
    PAGES["/large"] = (200, "text/html", b"x" * (5 << 20))
    PAGES["/model"] = (200, "application/octet-stream", b"x")

    def verify(path: str) -> tuple[int, set[str]]:
        answer = duties(folder, "--mode", "serve_api", "--parent", parent, "--verify", site + path)
        if answer.status == 2:
            assert site in answer.errors
        return answer.status, {m["duty"] for m in answer.told.get("missing", [])}

    assert verify("/good") == verify("/moved") == (0, set())
    assert verify("/bad") == (4, {"display_text"})
    assert {verify(p)[0] for p in ("/loop", "/large", "/model", "/gone")} == {2}

"""Files, commits and refs as pages: what a visitor would miss, and what a hostile file could do."""

import re
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from ecotone.accounts import SYSTEM
from ecotone.catalog.models import ModelRow
from ecotone.publishing import AddRegular, Commit
from ecotone.storage.content import blob_id
from ecotone.vocabulary import RepoType
from ecotone.web import history, previews
from tests.web.conftest import ADMIN, NAMES, PIXEL, publish

AS_ADMIN = {"authorization": f"Bearer {ADMIN}"}


def text(server: SimpleNamespace, path: str, status: int = 200, **headers: str) -> str:
    answer = server.http.get(path, headers=headers)
    assert answer.status_code == status, answer.text[:500]
    return str(answer.text)


def test_a_folder_shows_who_changed_what_last_with_sizes_and_downloads(server: SimpleNamespace) -> None:
    html = text(server, "/demo/bert-atlas/tree/main")
    docs = html.split('class="folder"')[1].split("</tr>")[0]
    assert "Say more" in docs and '<time datetime="' in docs
    row = html.split("blob/main/config.json")[1].split("</tr>")[0]
    assert "Add" in row and "/resolve/" in row and "bytes" in row and "download" in row
    assert 'id="readme-title"' in html and "144 facts" in html
    assert "/demo/bert-atlas/upload" not in html, "visitors are offered no forms"


def test_large_files_show_form_and_hash_and_weights_their_tensors(server: SimpleNamespace, tmp_path: object) -> None:
    from tests.web.test_writing import upload  # a browser's upload makes large files

    publish(server.services, "demo/large", {"README.md": b"# Large\n"})
    assert upload(server, "/demo/large/upload/main", {"model.safetensors": weights_of(3)}).status_code == 303
    html = text(server, "/demo/large/tree/main")
    sha256 = re.search(r"sha256 ([0-9a-f]{64})", html)
    assert sha256 and ">LFS<" in html
    blob = text(server, "/demo/large/blob/main/model.safetensors")
    assert sha256.group(1) in blob and "3 tensors" in blob and "layer.2" in blob and "F32" in blob
    commit = text(server, f"/demo/large/commit/{head(server, 'demo/large')}")
    assert sha256.group(1) in commit and "added" in commit
    gate(server, "demo/large", "manual")
    assert sha256.group(1) not in text(server, "/demo/large/tree/main")
    assert sha256.group(1) not in text(server, f"/demo/large/commit/{head(server, 'demo/large')}")
    text(server, "/demo/large/blob/main/model.safetensors", 403)
    text(server, "/demo/large/picture/main/README.md", 403)
    gate(server, "demo/large", None)


def weights_of(count: int) -> bytes:
    import json
    import struct

    table = {f"layer.{n}": {"dtype": "F32", "shape": [2], "data_offsets": [8 * n, 8 * n + 8]} for n in range(count)}
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8 * count)


def head(server: SimpleNamespace, name: str) -> str:
    return str(server.services.catalog.model(name, viewer=SYSTEM).head)


def gate(server: SimpleNamespace, name: str, gated: str | None) -> None:
    with server.services.database.writing() as session:
        session.get(ModelRow, server.services.catalog.model(name, viewer=SYSTEM).key).gated = gated


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_are_shown_as_text_and_found(server: SimpleNamespace, name: str) -> None:
    folder = name.rpartition("/")[0]
    listing = text(server, "/demo/names/tree/main" + (f"/{quote(folder)}" if folder else ""))
    address = f"/demo/names/blob/main/{quote(name)}"
    assert f'href="{address}"' in listing
    for html in (listing, text(server, address)):
        assert "<img src=x" not in html and "49.txt" not in html
        assert "<bdi>" in html
    assert text(server, f"/demo/names/resolve/main/{quote(name)}") == "text\n"


def test_pictures_come_from_a_sandbox_and_drawings_with_scripts_never(server: SimpleNamespace) -> None:
    assert '<img src="/demo/names/picture/' in text(server, "/demo/names/blob/main/pixel.png")
    answer = server.http.get("/demo/names/picture/main/pixel.png")
    assert answer.content == PIXEL and answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    text(server, "/demo/names/picture/main/evil.svg", 404)
    html = text(server, "/demo/names/blob/main/evil.svg")
    assert "&lt;script&gt;alert(10)" in html and "<script>alert(10)" not in html


def test_text_has_numbered_lines_and_hidden_marks_are_shown(server: SimpleNamespace) -> None:
    many = "".join(f"line {number}\n" for number in range(previews.MOST_LINES + 5))
    trojan = "if admin:\u202e # no\u2066\n"
    publish(server.services, "demo/lines", {"many.txt": many.encode(), "trojan.py": trojan.encode()})
    html = text(server, "/demo/lines/blob/main/many.txt")
    assert '<li id="L7"><code>line 6</code></li>' in html and "beginning of the file" in html
    assert f'id="L{previews.MOST_LINES}"' in html and f'id="L{previews.MOST_LINES + 1}"' not in html
    html = text(server, "/demo/lines/blob/main/trojan.py")
    assert "\u202e" not in html and "[U+202E] # no[U+2066]" in html and "direction of writing" in html
    assert "\u202e" not in text(server, f"/demo/lines/commit/{head(server, 'demo/lines')}")


def test_history_goes_page_by_page_and_by_branch(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 2)
    for number in range(4):
        publish(server.services, "demo/paged", {"a.txt": b"%d" % number}, message=f"Number {number}")
    model = server.services.catalog.model("demo/paged", viewer=SYSTEM)
    server.services.catalog.create_branch(model, "side/one", actor=SYSTEM)
    seen, path = [], "/demo/paged/commits/main"
    while path:
        html = text(server, path)
        seen += re.findall(r"<bdi>(Number \d|Initial commit)</bdi>", html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        path = older.group(1) if older else ""
    assert seen == ["Number 3", "Number 2", "Number 1", "Number 0", "Initial commit"]
    assert "/demo/paged/commits/side%2Fone" in text(server, "/demo/paged/commits/main")
    text(server, "/demo/paged/commits/side%2Fone")
    assert "side%2Fone" in text(server, "/demo/paged/refs")


def test_a_long_difference_is_folded_and_a_huge_one_left_out(server: SimpleNamespace) -> None:
    files = {f"f{number}.txt": b"x\n" * 1900 for number in range(3)} | {"small.txt": b"one\n"}
    oid = publish(server.services, "demo/differences", files)
    html = text(server, f"/demo/differences/commit/{oid}")
    assert html.count('<details class="hunks">') == 2 and html.count('<details class="hunks" open>') == 0
    assert html.count("this page is long already") == 2
    oid = publish(server.services, "demo/differences", {"small.txt": b"two\n"})
    html = text(server, f"/demo/differences/commit/{oid}")
    assert '<details class="hunks" open>' in html and "-one" in html and "+two" in html and "@@ -1 +1 @@" in html


def test_spaces_and_datasets_have_the_same_pages(server: SimpleNamespace) -> None:
    catalog = server.services.catalog
    catalog.create("demo/app", repo_type=RepoType.SPACE, private=False, actor=SYSTEM)
    changes = Commit(message="Add", operations=(AddRegular("README.md", b"# A space\n\nSee [app](app.py)\n"),))
    made = server.services.publishing.commit("demo/app", "main", changes, actor=SYSTEM, repo_type=RepoType.SPACE)
    html = text(server, "/spaces/demo/app")
    assert "A space" in html and f"/spaces/demo/app/blob/{made.revision_id}/app.py" in html
    for kind, name in (("spaces", "app"), ("datasets", "rows")):
        for page in ("tree/main", "commits/main", "refs", "blob/main/.gitattributes"):
            text(server, f"/{kind}/demo/{name}/{page}")
    assert "<h1" in text(server, f"/spaces/demo/app/commit/{made.revision_id}")


def test_a_long_folder_is_paged(server: SimpleNamespace) -> None:
    publish(server.services, "demo/many", {f"many/f{number:04}.txt": b"x" for number in range(520)})
    html = text(server, "/demo/many/tree/main/many")
    assert "f0499.txt" in html and "f0500.txt" not in html and "20 more" in html
    html = text(server, "/demo/many/tree/main/many?start=500")
    assert "f0500.txt" in html and "f0499.txt" not in html


def test_private_repositories_are_absent_on_every_page(server: SimpleNamespace) -> None:
    oid = head(server, "demo/secret")
    pages = ("tree/main", "blob/main/README.md", "commits/main", f"commit/{oid}", "refs", "picture/main/README.md")
    forms = ("upload/main", "edit/main/README.md", "delete/main/README.md", "refs/delete?ref=refs/heads/x")
    for page in (*pages, *forms):
        one = text(server, f"/demo/secret/{page}", 404)
        other = text(server, f"/demo/absent/{page}", 404)
        assert one.replace("secret", "absent") == other, page
    assert "Hidden words" in text(server, "/demo/secret/blob/main/README.md", **AS_ADMIN)


def test_relative_links_of_a_card_in_a_folder_stay_in_it(server: SimpleNamespace) -> None:
    oid = publish(server.services, "demo/nested", {"docs/README.md": b"# In\n\n[next](next.md) ![p](p.png)\n"})
    html = text(server, "/demo/nested/blob/main/docs/README.md")
    assert f"/demo/nested/blob/{oid}/docs/next.md" in html and f"/demo/nested/resolve/{oid}/docs/p.png" in html


def test_blob_ids_are_those_of_git(server: SimpleNamespace) -> None:
    assert blob_id(b"text\n") in text(server, f"/demo/names/blob/main/{quote(NAMES[3])}")

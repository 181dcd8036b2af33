"""The table of files: which paths exist, of which type, and that a stray file is never served by chance."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.console.files import KINDS, PAGES, STATIC, load_files, page_path

FILES = load_files()


def test_every_page_is_the_shell_and_every_file_has_its_type() -> None:
    shell = FILES["/console"]
    assert all(FILES[f"/console{page}"] is shell for page in PAGES)
    assert FILES["/console/"] is shell
    assert shell.kind == b"text/html; charset=utf-8"
    on_disk = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()} - {"index.html"}
    static = {path.removeprefix("/console/static/") for path in FILES if path.startswith("/console/static/")}
    assert static == on_disk
    assert all(FILES[f"/console/static/{name}"].kind == KINDS[Path(name).suffix] for name in static)


@pytest.mark.parametrize(
    ("path", "shell"),
    [
        ("/console/tasks/task_e_019f3c2ab4d1e0f1a2b3c4d5e6f7", True),
        ("/console/environments/env_0a1b2c3d4e5f6071", True),
        ("/console/tasks/" + "a" * 128, True),
        ("/console/tasks/" + "a" * 129, False),
        ("/console/tasks/", False),
        ("/console/tasks/a/b", False),
        ("/console/tasks/..", False),
        ("/console/tasks/a%2e", False),
        ("/console/tasks/a\n", False),
        ("/console/accounts/acc_1", False),
        ("/console/static/x", False),
    ],
)
def test_one_task_or_environment_has_a_page_by_its_id(path: str, shell: bool) -> None:
    assert (page_path(path) == "/console/") is shell
    assert shell or page_path(path) == path


def test_a_file_of_another_kind_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "notes.txt").write_text("left behind")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        load_files(tmp_path)


def test_tags_differ_with_the_content(tmp_path: Path) -> None:
    for folder, text in (("a", "1"), ("b", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "index.html").write_text(text)
    first, second = (load_files(tmp_path / folder)["/console"] for folder in "ab")
    assert first.etag != second.etag
    assert re.fullmatch(rb'"[0-9a-f]{32}"', first.etag)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    shell = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", shell) == []
    assert re.findall(r"<style|\bstyle=|\bon[a-z]+=", shell) == []
    for path in STATIC.rglob("*.*"):
        text = path.read_text()
        hosts = set(re.findall(r"https?://([a-z0-9.-]+)", text))
        assert hosts <= {"www.w3.org", "127.0.0.1", "localhost"}, path.name


def test_no_script_turns_text_into_markup_or_code() -> None:
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|\bstyle:"
    banned += r"|localStorage|sessionStorage|document\.cookie"
    for path in STATIC.rglob("*.js"):
        assert re.findall(banned, path.read_text()) == [], path.name


def test_every_import_of_a_script_leads_to_a_file() -> None:
    for path in STATIC.rglob("*.js"):
        for target in re.findall(r"""from "([^"]+)";""", path.read_text()):
            assert target.startswith("."), path.name
            assert (path.parent / target).is_file(), f"{path.name}: {target}"

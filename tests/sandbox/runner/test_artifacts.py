"""What is kept of a workspace that an adversary filled."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandbox.runner import artifacts
from sandbox.runner.artifacts import keep


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "report.txt").write_text("report")
    (tmp_path / "secret").write_text("secret")
    return folder


def test_files_and_folders_that_are_named_are_kept(work: Path, tmp_path: Path) -> None:
    (work / "out" / "deep").mkdir()
    (work / "out" / "deep" / "<b>\n.txt").write_text("x")
    kept = keep(work, ["out", "./out/report.txt", "none"], tmp_path / "kept")
    assert set(kept.names) == {"out/report.txt", "out/deep/<b>\n.txt"}
    assert (tmp_path / "kept" / "out" / "report.txt").read_text() == "report"
    assert ("none", "No such file or directory") in kept.left


def test_nothing_leads_out_of_the_workspace(work: Path, tmp_path: Path) -> None:
    (work / "link").symlink_to(tmp_path / "secret")
    (work / "folder").symlink_to(tmp_path)
    (work / "hard").hardlink_to(tmp_path / "secret")
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(work / "socket"))
    (work / ".git").mkdir()
    (work / ".git" / "config").write_text("x")
    paths = ["link", "folder", "folder/secret", "hard", "pipe", "socket", "../secret", str(tmp_path / "secret"), "",
             ".", "out/../../secret", ".git/config", "\0", "out/report.txt/x"]  # fmt: skip
    kept = keep(work, paths, tmp_path / "kept")
    assert kept.names == ()
    assert {path for path, _ in kept.left} == set(paths)
    assert not (tmp_path / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_left(work: Path, tmp_path: Path) -> None:
    try:
        os.mknod(work / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this machine lets nobody make devices")
    assert keep(work, ["zero"], tmp_path / "kept").names == ()


def test_holes_count_as_what_they_would_be(work: Path, tmp_path: Path) -> None:
    with (work / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    kept = keep(work, ["sparse"], tmp_path / "kept")
    assert (kept.names, kept.left) == ((), (("sparse", "too large"),))


def test_there_are_at_most_so_many(work: Path, tmp_path: Path) -> None:
    for number in range(artifacts.FILES_MAX + 50):
        (work / "out" / f"{number:05}").write_text("x")
    assert len(keep(work, ["out"], tmp_path / "kept").names) == artifacts.FILES_MAX


def test_a_tree_without_a_bottom_ends(work: Path, tmp_path: Path) -> None:
    deep = work.joinpath("deep", *(["d"] * 60))
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    kept = keep(work, ["deep"], tmp_path / "kept")
    assert kept.names == ()
    assert kept.left[0][1] == "too deep"

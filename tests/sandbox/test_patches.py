"""Patches: git's own are read as git means them, hostile ones are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.patches import BadPatch, PatchFacts, check_patch

GIT = shutil.which("git")
GOOD = b"""diff --git a/x.py b/x.py
index 1111111..2222222 100644
--- a/x.py
+++ b/x.py
@@ -1,2 +1,3 @@ def f():
 one
-two
+--- a/three
++++ b/four
\\ No newline at end of file
"""


def test_what_a_patch_touches_is_counted() -> None:
    assert check_patch(GOOD) == PatchFacts(1, 2, 1, 0, ("x.py",))
    assert check_patch(b"") == PatchFacts()
    with pytest.raises(BadPatch, match="larger than 10"):
        check_patch(GOOD, limit_bytes=10)


def new(path: str, mode: str = "100644") -> bytes:
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\nindex 0000000..1111111\n--- /dev/null\n"
        f"+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    ).encode()


HOSTILE = {
    "not a patch": b"hello\n",
    "only hunks": b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
    "up": new("../x"),
    "deep up": new("a/../../x"),
    "absolute": new("/etc/passwd"),
    "git": new(".git/hooks/pre-commit"),
    "GIT": new("sub/.GIT/config"),
    "git with a dot": new(".git./config"),
    "short git": new("git~1/config"),
    "backslash": new("a\\b"),
    "not plain": new("a//b"),
    "dot": new("./a"),
    "quoted up": b'diff --git "a/../\\303\\244" "b/../\\303\\244"\nnew file mode 100644\n',
    "quoted line end": b'diff --git "a/x\\ny" "b/x\\ny"\nnew file mode 100644\n',
    "not UTF-8": b'diff --git "a/\\377" "b/\\377"\nnew file mode 100644\n',
    "other name below": new("x").replace(b"+++ b/x", b"+++ b/.git/config"),
    "absolute name below": new("x").replace(b"+++ b/x", b"+++ /etc/passwd"),
    "no prefix": b"diff --git x x\n",
    "ambiguous": b"diff --git a/x b/y b/z b/q\n",
    "rename into git": b"diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to .git/config\n",
    "copy from outside": b"diff --git a/x b/y\nsimilarity index 100%\ncopy from ../x\ncopy to y\n",
    "short hunk": GOOD.replace(b"-1,2 +1,3", b"-1,9 +1,9"),
    "long hunk": GOOD.replace(b"-1,2 +1,3", b"-1,1 +1,1"),
    "uneven hunk": b"diff --git a/x b/x\n@@ -1,1 +1,0 @@\n+a\n",
    "strange line": GOOD.replace(b"index 1111111", b"inject 111111"),
    "strange mode": new("x", "7777777"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_patch_is_refused(data: bytes) -> None:
    with pytest.raises(BadPatch) as caught:
        check_patch(data)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("mode", ["120000", "160000"])
def test_a_link_is_counted_and_refused_where_it_would_be_applied(mode: str) -> None:
    assert check_patch(new("x", mode)).links == 1
    with pytest.raises(BadPatch, match="symbolic link or a submodule"):
        check_patch(new("x", mode), strict=True)


@pytest.mark.skipif(GIT is None, reason="git is missing: apt-get install git")
def test_what_git_makes_is_read_as_git_counts_it(tmp_path: Path) -> None:
    def git(*words: str) -> bytes:
        named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            [str(GIT), *named, *words], cwd=tmp_path, check=True, capture_output=True, env=environment
        ).stdout

    git("init", "-q")
    for name in ("a b/c d.txt", "\u00fcber.txt", 'quo"ted', "moved", "gone", "mode", "tab\u00e9 x"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"line {n}{'!' * (name == 'gone')}\n" for n in range(40)))
    (tmp_path / "image").write_bytes(os.urandom(3000))
    git("add", "-A")
    git("commit", "-qm", "one")
    (tmp_path / "a b/c d.txt").write_text("line 0\n-- a/x\n++ b/y\n" + "".join(f"line {n}\n" for n in range(30)))
    (tmp_path / "\u00fcber.txt").write_text("no line end")
    (tmp_path / 'quo"ted').write_text("\n\n\n")
    (tmp_path / "moved").rename(tmp_path / "moved b")
    (tmp_path / "gone").unlink()
    (tmp_path / "mode").chmod(0o755)
    (tmp_path / "image").write_bytes(os.urandom(4000))
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("mode")
    git("add", "-A")
    facts = check_patch(git("diff", "--cached", "--binary", "-M", "HEAD"))
    stat = [line.split(b"\t") for line in git("diff", "--cached", "--numstat", "-M", "-z", "HEAD").split(b"\0") if line]
    counted = [(int(row[0]), int(row[1])) for row in stat if len(row) == 3 and row[0] != b"-"]
    assert (facts.lines_added, facts.lines_removed) == (sum(a for a, _ in counted), sum(r for _, r in counted))
    assert set(facts.paths) == {
        "a b/c d.txt", "\u00fcber.txt", 'quo"ted', "moved b", "gone", "mode", "image", "empty", "link"
    }  # fmt: skip
    assert (facts.files, facts.links) == (9, 1)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_damage_is_refused_or_read(noise: bytes, at: int) -> None:
    try:
        facts = check_patch(GOOD[:at] + noise + GOOD[at:])
    except BadPatch:
        return
    assert all(path and not path.startswith("/") for path in facts.paths)

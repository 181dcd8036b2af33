"""Uploads: what comes out is a plain tar of ours, or nothing."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.archives import MTIME_S, OWNER, ArchiveRules, BadArchive, Kind, check_archive, checked_tar
from sandbox.archives_rules import is_git, segments_of
from tests.sandbox.archive_makers import Entry, pieces, special, tar_of, zip_of

SMALL = ArchiveRules(
    archive_bytes=200_000, total_bytes=3_000_000, entries=20, ratio=200, ratio_floor_bytes=100_000, depth=5
)  # fmt: skip


async def out_of(data: bytes, rules: ArchiveRules = SMALL, kind: Kind | None = None) -> dict[str, bytes | None]:
    """What the stream unpacks to; folders are None."""
    stream = b"".join([piece async for piece in checked_tar(pieces(data), kind, rules)])
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=io.BytesIO(stream), mode="r:") as archive:
        for info in archive:
            assert (info.uid, info.gid, info.mtime, info.uname) == (OWNER, OWNER, MTIME_S, "")
            assert info.mode in ({0o755} if info.isdir() else {0o644, 0o755})
            assert info.isdir() or info.isreg()
            file = archive.extractfile(info)
            found[info.name] = file.read() if file else None
    return found


async def why(data: bytes, rules: ArchiveRules = SMALL, kind: Kind | None = None) -> str:
    with pytest.raises(BadArchive) as caught:
        await out_of(data, rules, kind)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    return str(caught.value)


FILES = {"a.txt": b"one", "src/deep/b.py": b"two" * 10_000, "empty": b"", "\u00fcber/\u00e4.txt": b"three"}
EXPECTED = {**FILES, "src": None, "src/deep": None, "\u00fcber": None}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
async def test_a_tar_comes_out_as_it_went_in(packed: bool, form: int) -> None:
    assert await out_of(tar_of(FILES, packed=packed, form=form), kind="tar") == EXPECTED


async def test_a_zip_comes_out_as_it_went_in() -> None:
    assert await out_of(zip_of(*(Entry(name, data) for name, data in FILES.items())), kind="zip") == EXPECTED
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
        archive.writestr("folder/", b"")
    assert await out_of(out.getvalue()) == {**EXPECTED, "folder": None}


async def test_what_may_be_run_stays_so_and_folders_come_first() -> None:
    data = zip_of(Entry("z/run.sh", b"#!", mode=0o100755), Entry("a", b"", mode=0o100600))
    stream = b"".join([piece async for piece in checked_tar(pieces(data), None, SMALL)])
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        assert [(one.name, oct(one.mode)) for one in archive] == [("z", "0o755"), ("z/run.sh", "0o755"), ("a", "0o644")]


GIT = (".git/config", ".GIT/config", "a/.Git/hooks/x", ".git./config", ".git /config", ".git::$INDEX_ALLOCATION/config",
       "git~1/config", "GIT~1/x", ".g\u200cit/config", ".\uff47it/x", ".git", "sub/.git")  # fmt: skip


@pytest.mark.parametrize("name", GIT)
async def test_git_in_every_spelling_is_left_out(name: str) -> None:
    for data in (zip_of(Entry(name, b"x"), Entry("kept", b"y")), tar_of({name: b"x", "kept": b"y"})):
        archive = await check_archive(pieces(data), None, SMALL)
        assert (archive.files, archive.dropped, archive.size_bytes) == (1, 1, 1)
        archive.close()
        assert set(await out_of(data)) == {"kept"}


@pytest.mark.parametrize("name", [".gitignore", ".github/x", "git", "a.git", ".gitmodules", "git~10"])
def test_what_only_looks_like_git_stays(name: str) -> None:
    assert not any(is_git(part) for part in name.split("/"))


NAMES = {
    "../evil": "leads out", "a/../../evil": "leads out", "/etc/passwd": "absolute", "C:/x": "absolute",
    "c:x": "absolute",
    "a\\..\\b": "backslash", "a\nb": "control", "a\x7f": "control", "a\x85b": "control", "a/b/c/d/e/f": "nested deeper",
    "x" * 256: "longer than 255", "x/" * 600: "longer than 1024", "a/..": "leads out", "..": "leads out",
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), NAMES.items())
async def test_a_bad_name_refuses_the_archive(name: str, text: str) -> None:
    assert text in await why(zip_of(Entry(name, b"x" if not name.endswith("/") else b"")))
    assert text in await why(tar_of({name: b"x"}))


CLASHES = [
    ("README", "readme"), ("a/x", "A/y"), ("stra\u00dfe", "STRASSE"), ("\u00e9", "e\u0301"), ("a", "a"), ("a", "a/b"),
    ("a/b", "a"), ("\ufb01le", "file"), ("x ", "x"), ("x.", "x"), ("a\u200b", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), CLASHES)
async def test_two_names_that_some_file_system_takes_for_one(first: str, second: str) -> None:
    assert "there twice" in await why(zip_of(Entry(first, b"1"), Entry(second, b"2")))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in (first, second):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"1"))
    assert "there twice" in await why(out.getvalue())


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
async def test_a_tar_holds_files_and_folders_alone(kind: bytes) -> None:
    assert "link, a device or sparse" in await why(tar_of({"a": b"x"}, special("b", kind, "/etc/passwd")))


@pytest.mark.parametrize("mode", [0o120777, 0o060644, 0o020644, 0o010644, 0o140644])
async def test_a_zip_holds_files_and_folders_alone(mode: int) -> None:
    assert "link or a device" in await why(zip_of(Entry("b", b"/etc/passwd", mode=mode)))


ONE = Entry("a", b"hello" * 100)
ZIPS: dict[str, tuple[bytes, str]] = {
    "encrypted": (zip_of(Entry("a", b"x", flags=0x801)), "encrypted"),
    "strongly encrypted": (zip_of(Entry("a", b"x", flags=0x841)), "encrypted"),
    "masked": (zip_of(Entry("a", b"x", flags=0x2800)), "encrypted"),
    "another method": (zip_of(Entry("a", b"x", method=12)), "use deflate"),
    "not UTF-8": (zip_of(Entry(b"\xff\xfe", b"x")), "not UTF-8"),
    "NUL": (zip_of(Entry(b"a\0b", b"x")), "control"),
    "size too small": (zip_of(Entry("a", b"x" * 5000, size=10)), "larger than it says"),
    "size too large": (zip_of(Entry("a", b"x", size=1000)), "not what its header says"),
    "wrong CRC": (zip_of(Entry("a", b"x", crc=1)), "not what its header says"),
    "damaged": (zip_of(ONE).replace(zip_of(ONE)[31:36], b"\xff\xff\xff\xff\xff", 1), "content of 'a'"),
    "packed too long": (zip_of(Entry("a", b"x", packed=4000)), "overlaps"),
    "overlapping": (zip_of(Entry("a", b"x" * 99, method=0), Entry("b", b"y", offset=0, local_name=b"a")), "disagree"),
    "twice the same bytes": (zip_of(Entry("a", b"x"), Entry("a", b"x", offset=0)), "overlaps"),
    "two names": (zip_of(Entry("a", b"x", local_name=b"b")), "disagree"),
    "no local header": (zip_of(Entry("a", b"x", offset=7)), "not where the directory says"),
    "offset far away": (zip_of(Entry("a", b"x", offset=1_000_000)), "not where the directory says"),
    "zip64": (zip_of(Entry("a", b"x", size=0xFFFFFFFF)), "zip64"),
    "gap before the end": (zip_of(ONE, gap=b"gap"), "not where it should be"),
    "something behind": (zip_of(ONE) + b"more", "not a zip file"),
    "two ends": (zip_of(ONE, comment=zip_of()), "more than one end"),
    "cut": (zip_of(ONE)[:-5], "not a zip file"),
    "only a beginning": (b"PK\x03\x04", "not a zip file"),
    "folder with a content": (zip_of(Entry("a/", b"x", mode=0o040755)), "has a content"),
    "folder by its mode": (zip_of(Entry("a", b"", mode=0o040755)), "file by its name"),
    "damaged directory": (zip_of(ONE).replace(b"PK\x01\x02", b"PK\x01\x03"), "directory is damaged"),
    "bomb": (zip_of(Entry("a", bytes(2_900_000))), "200 times"),
    "too much": (zip_of(Entry("a", os.urandom(10)), Entry("b", b"x", size=3_000_000)), "more than 2 MiB"),
    "too many": (zip_of(*(Entry(f"f{n}") for n in range(21))), "more than 20 entries"),
    "root is a file": (zip_of(Entry(".", b"x")), "names no file"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "text"), ZIPS.values(), ids=ZIPS)
async def test_a_hostile_zip_is_refused_with_its_reason(data: bytes, text: str) -> None:
    assert text in await why(data)


TARS: dict[str, tuple[bytes, str]] = {
    "cut in a content": (tar_of({"a": b"x" * 5000})[:1024], "not a whole tar"),
    "cut behind a content": (tar_of({"a": b"x" * 512})[:1024], "end is missing"),
    "damaged second header": (tar_of({"a": b"x"})[:1024] + b"\x01" * 1024, "end is missing"),
    "cut gzip": (tar_of({"a": os.urandom(5000)}, packed=True)[:2000], "not a whole tar"),
    "nothing": (b"", "not a whole tar"),
    "garbage": (b"garbage" * 1000, "not a whole tar"),
    "bomb": (tar_of({"a": bytes(2_900_000)}, packed=True), "200 times"),
    "too many": (tar_of({f"f{n}": b"" for n in range(21)}), "more than 20 entries"),
    "not UTF-8": (tar_of({"a": b"x"}, form=tarfile.USTAR_FORMAT).replace(b"a\0", b"\xff\0", 1), "not a whole tar"),
}


@pytest.mark.parametrize(("data", "text"), TARS.values(), ids=TARS)
async def test_a_hostile_tar_is_refused_with_its_reason(data: bytes, text: str) -> None:
    assert text in await why(data)


def header(size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with a size field of one's own."""
    raw = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    raw[124:136] = size
    raw[156:157] = kind
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize(
    "raw",
    [
        header(b"\xff" * 12), header(b"\x80" + b"\x7f" * 11), header(b"77777777777\0"), header(b"77777777777\0", b"x"),
        header(b"77777777777\0", b"L"), header(b"00004000001\0", b"x"), header(b"\xff" * 12, b"x"),
    ],
)  # fmt: skip
async def test_a_size_that_lies_takes_no_memory(raw: bytes) -> None:
    assert await why(raw + bytes(10_240))


async def test_headers_that_follow_headers_come_to_an_end() -> None:
    assert await why(header(struct.pack("12s", b"00000000000\0"), b"x") * 300)


async def test_what_is_too_large_is_refused_while_it_comes() -> None:
    assert "larger than 0 MiB" in await why(os.urandom(300_000))


async def test_a_kind_that_is_not_the_one_announced() -> None:
    assert await why(tar_of({"a": b""}), kind="zip") == "it is not a zip file"
    assert await why(zip_of(ONE), kind="tar") == "it is not a tar file"


async def test_nothing_of_it_touches_the_disk_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await out_of(zip_of(Entry("a/b", b"x")))
    await why(zip_of(Entry("../evil", b"x")))
    await why(tar_of({"/evil": b"x"}))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_any_name_is_a_path_below_the_root_or_refused(name: str) -> None:
    try:
        parts = segments_of(name, SMALL)
    except BadArchive:
        return
    assert not {"", ".", ".."} & set(parts)
    assert not any("/" in part or "\\" in part or "\0" in part for part in parts)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 700), st.sampled_from(["zip", "tar", "gz"]))
async def test_any_damage_is_refused_or_harmless(noise: bytes, at: int, kind: str) -> None:
    whole = zip_of(ONE) if kind == "zip" else tar_of({"a": b"hello"}, packed=kind == "gz")
    data = whole[:at] + noise + whole[at + len(noise) :]
    try:
        found = await out_of(data)
    except BadArchive:
        return
    assert all(not name.startswith(("/", "..")) for name in found)

"""A tar of /out that an adversary shaped, read in any pieces."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import AsyncIterator

import pytest

from sandbox.out_tar import OutCaps, OutRefused, input_tar, kept_name, read_out_tar

WIDE = OutCaps()
FILES = {"diff.patch": b"d" * 1300, "result.json": b"{}", "artifacts/a/b.txt": b"b" * 512, "last_message.txt": b""}


async def pieces(data: bytes, size: int = 700) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        yield b""


async def collected(data: bytes, caps: OutCaps = WIDE, size: int = 700) -> dict[str, bytes]:
    found = {}
    async for name, chunks in read_out_tar(pieces(data, size), caps):
        found[name] = b"".join([chunk async for chunk in chunks])
    return found


def made(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member, data in members:
            if member.isreg():
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def one(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("engine", ["docker", "podman"])
async def test_files_come_out_of_both_engines_tars(form: int, engine: str) -> None:
    prefix = "out" if engine == "docker" else ""
    folder = one("out/" if prefix else "/", tarfile.DIRTYPE)
    data = made((folder, b""), *((one(f"{prefix}/{name}"), content) for name, content in FILES.items()), form=form)
    for size in (1, 511, 4096, 10**6):
        assert await collected(data, size=size) == FILES


async def test_long_and_strange_names_below_artifacts_are_kept() -> None:
    names = [f"artifacts/{'x' * 200}/{'y' * 200}.txt", "artifacts/\u00fc \u65e5.txt", "artifacts/<script>"]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert list(await collected(made(*((one(name), b"1") for name in names), form=form))) == names


HOSTILE = (
    one("out/diff.patch", tarfile.SYMTYPE, "/etc/passwd"), one("out/diff.patch", tarfile.LNKTYPE, "../etc/passwd"),
    one("out/diff.patch", tarfile.CHRTYPE), one("out/diff.patch", tarfile.BLKTYPE),
    one("out/diff.patch", tarfile.FIFOTYPE), one("out/diff.patch", tarfile.DIRTYPE),
    one("out/diff.patch", b"S"), one("out/diff.patch", b"7"),
    one("out/../diff.patch"), one("/etc/passwd"), one("../out/diff.patch"), one("out/other"), one("out/x/diff.patch"),
    one("out/artifacts"), one("out/artifacts/"), one("out/artifacts/../x"), one("out/artifacts/a/../../x"),
    one("out/artifacts/./x"), one("out/artifacts//x"), one("out/artifacts/a\nb"), one("out/artifacts/a\x1b[2Jb"),
    one("out/artifacts/a\\b"), one("out/artifacts/\u202egnp"), one("out/artifacts/" + "d/" * 600 + "x"),
    one("out/artifacts/" + "n" * 300), one("out/diff.patch/"), one("diff.patch"),
)  # fmt: skip


@pytest.mark.parametrize("member", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_hostile_member_is_passed_over_and_the_next_one_is_read(member: tarfile.TarInfo) -> None:
    data = made((one("out/", tarfile.DIRTYPE), b""), (member, b"x" * 600), (one("out/result.json"), b"{}"))
    assert await collected(data) == {"result.json": b"{}"}


async def test_the_first_of_two_of_one_name_counts_and_modes_do_not() -> None:
    data = made((one("setup.log", mode=0o6777), b"first"), (one("setup.log"), b"second"))
    assert await collected(data) == {"setup.log": b"first"}


async def test_sparse_files_are_passed_over() -> None:
    sparse = one("artifacts/sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 40)}
    assert await collected(made((sparse, b"x"), (one("result.json"), b"{}"))) == {"result.json": b"{}"}


async def test_a_file_that_is_too_large_is_passed_over_and_all_together_end_the_reading() -> None:
    data = made((one("diff.patch"), b"x" * 5000), (one("result.json"), b"{}"))
    assert await collected(data, OutCaps(file_bytes=4999)) == {"result.json": b"{}"}
    for caps in (OutCaps(all_bytes=5001), OutCaps(members=1), OutCaps(files=1)):
        with pytest.raises(OutRefused):
            await collected(data, caps)


@pytest.mark.parametrize("size", ["terabyte", "negative", "letters", "huge"])
async def test_a_size_that_cannot_be_is_refused(size: str) -> None:
    block = bytearray(made((one("diff.patch"), b"x"))[:512])
    field = {
        "terabyte": b"\x80" + (1 << 40).to_bytes(11), "negative": b"\xff" * 12, "letters": b"zzzzzzzzzzz\0",
        "huge": b"\x80" + b"\xff" * 11,
    }[size]  # fmt: skip
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    with pytest.raises(OutRefused):
        await collected(bytes(block) + b"x" * 4096)


async def test_what_breaks_off_or_is_no_tar_is_refused_wherever_it_is() -> None:
    data = made((one("diff.patch"), b"x" * 2000), (one("artifacts/" + "n" * 150), b"y"))
    for end in range(1, 3400, 97):
        if end % 512 or 512 <= end < 2560:
            with pytest.raises(OutRefused):
                await collected(data[:end])
    rng = random.Random(7)
    for _ in range(200):
        broken = bytearray(data)
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            found = await collected(bytes(broken))
        except OutRefused:
            continue
        assert all(kept_name(name, docker=False) == name for name in found)
    for nonsense in (b"x" * 512, b"x" * 100, b"PK\x03\x04" * 400):
        with pytest.raises(OutRefused):
            await collected(nonsense)
    assert await collected(b"") == {}


async def test_what_a_caller_does_not_read_is_passed_over() -> None:
    names = []
    async for name, chunks in read_out_tar(pieces(made(*((one(n), c) for n, c in FILES.items())))):
        names.append(name)
        async for _ in chunks:
            break
    assert names == list(FILES)


def test_inputs_are_owned_by_the_agent_and_secrets_are_private() -> None:
    with tarfile.open(fileobj=io.BytesIO(input_tar({"spec.json": b"{}", "secrets.json": b"{}"}))) as tar:
        assert [(m.name, m.mode, m.uid, m.gid) for m in tar] == [
            ("spec.json", 0o644, 10001, 10001), ("secrets.json", 0o600, 10001, 10001),
        ]  # fmt: skip


def test_names_are_a_closed_set() -> None:
    assert kept_name("./diff.patch", docker=False) == "diff.patch"
    assert kept_name("out/artifacts/a/b", docker=True) == "artifacts/a/b"
    assert kept_name("artifacts/a", docker=True) is None

"""An upload is checked, counted and capped while it comes; what is refused is not kept."""

from __future__ import annotations

import io
import tarfile

import pytest

from gateway.tasks.uploads import EntryCounter
from tests.gateway.tasks.rig import UPLOAD_BYTES, TaskHouse

TAR = {"content-type": "application/x-tar"}


def tar(count: int = 3) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(count):
            entry = tarfile.TarInfo(f"folder/{'long' * 40}-{number}.txt")
            entry.size = number * 400
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return file.getvalue()


async def test_it_is_kept_and_can_be_worked_on(house: TaskHouse) -> None:
    line = await house.ask("POST", "/v1/uploads", house.one, tar(), headers=TAR)
    assert (line.status, line.json["files"]) == (201, 3)
    assert line.json["size_bytes"] == len(tar())
    task = await house.new(source={"upload": line.json["id"]})
    assert task["state"] == "queued"
    foreign = {"environment": "env_2", "prompt": "x", "source": {"upload": line.json["id"]}}
    assert (await house.ask("POST", "/v1/tasks", house.two, foreign)).status == 400


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"evil", TAR, 400, "invalid_request"),
        (b"a" * (UPLOAD_BYTES + 1), TAR, 413, "body_too_large"),
        (b"a", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b"a", TAR | {"content-encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
    ids=["refused", "large", "kind", "coded"],
)
async def test_what_is_refused_is_not_kept(
    house: TaskHouse, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    line = await house.ask("POST", "/v1/uploads", house.one, body, headers=headers)
    assert (line.status, line.code) == (status, code)
    assert await house.results.remove("ten-1/uploads") == 0


@pytest.mark.parametrize("size", [1, 7, 512, 10_000])
def test_files_are_counted_however_the_stream_is_cut(size: int) -> None:
    counter, data = EntryCounter(), tar(5)
    for at in range(0, len(data), size):
        counter.see(data[at : at + size])
    assert counter.files == 5

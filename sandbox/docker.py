"""The container engine behind Docker's API (or Podman's, which speaks it too), by aiodocker.

The worker process alone imports this file: whoever opens the engine's socket is root on that host, and the process
that serves the web never does. Rules beyond those of the seam (sandbox/engine.py):

* a container is created from sandbox.isolation's body and nothing else, then read back and compared before its id is
  handed out; one that came out wider is removed and refused;
* a required runtime that the engine does not list is an EngineError, at the opening and at every create;
* every failure is translated in one place (``_asking``): no answer is EngineUnavailable, an unknown container is
  ContainerGone, the rest is EngineError with one line of the engine's own words;
* nothing is retried, no image is ever pulled, and no task is started here.

aiodocker decodes logs as UTF-8 and reads archives whole, so these two go over its session as bytes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiodocker
import aiohttp

from sandbox.docker_streams import BrokenStream, bounded, lines, unframed
from sandbox.engine import ContainerGone, ContainerSpec, EngineError, EngineInfo, EngineUnavailable, Exit, Found
from sandbox.isolation import NAMED_VOLUME, create_body, deviations

_UNIX: Final = "unix://"
_NO_CONNECTION: Final = 900  # aiodocker's own status
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
_CHUNK_BYTES: Final = 64 << 10
_SHORT: Final = aiohttp.ClientTimeout(total=_ANSWER_S, sock_connect=_CONNECT_S)
_LONG: Final = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
_STOP_SLACK_S: Final = 30.0
_TEXT_MAX: Final = 300


class DockerEngine:
    """One engine behind one socket. ``runtime`` is for containers that name none; None: the engine's default."""

    def __init__(self, docker: aiodocker.Docker, connector: aiohttp.BaseConnector, socket: Path, runtime: str | None):
        self._docker = docker
        self._connector = connector
        self._socket = socket
        self._runtime = runtime
        self._is_docker = True
        self._usage_lock = asyncio.Lock()

    @classmethod
    async def open(cls, socket_url: str, runtime: str | None = None) -> Self:
        """Connects and asks who is there. Raises EngineUnavailable when nobody answers, EngineError when the address
        is not a Unix socket (inputs and the gateway's socket need the same host) or the runtime is not there."""
        if not socket_url.startswith(_UNIX + "/"):
            raise EngineError(f"{socket_url!r} is no Unix socket; write it as unix:///path/to/docker.sock")
        socket = Path(socket_url.removeprefix(_UNIX))
        connector = aiohttp.UnixConnector(str(socket), limit=0)  # each container that runs holds two connections
        docker = aiodocker.Docker(url=_UNIX + "localhost", connector=connector, timeout=_SHORT)
        engine = cls(docker, connector, socket, runtime)
        try:
            found = await engine.info()
            engine._is_docker = found.name == "docker"
            engine._require(runtime, found)
        except BaseException:
            await engine.close()
            raise
        return engine

    async def close(self) -> None:
        """Ends the connections; containers go on."""
        await self._docker.close()
        await self._connector.close()

    async def info(self) -> EngineInfo:
        with _asking():
            told = await self._docker.system.info()
            version = await self._docker.version()
        names = [str(part.get("Name", "")) for part in version.get("Components") or ()]
        return EngineInfo(
            name="podman" if any("podman" in name.lower() for name in names) else "docker",
            version=str(version.get("Version", "")),
            runtimes=frozenset(told.get("Runtimes") or ()),
            rootless=any("rootless" in str(option) for option in told.get("SecurityOptions") or ()),
        )

    @staticmethod
    def _require(runtime: str | None, found: EngineInfo) -> None:
        if runtime is not None and runtime not in found.runtimes:
            there = ", ".join(sorted(found.runtimes)) or "none"
            raise EngineError(
                f"The container runtime {runtime!r} is required and the engine has only {there}; install it and name "
                "it in the engine's configuration, or set [sandbox] runtime to one that is there"
            )

    # one container

    async def create(self, spec: ContainerSpec) -> str:
        """The id of the new container, compared with its phase's table, not started. Cancel: it may be there."""
        runtime = spec.runtime or self._runtime
        body = create_body(spec, runtime)
        if spec.socket_folder is not None and self._socket.is_relative_to(spec.socket_folder):
            raise EngineError("A container that must not be made: the socket folder holds the engine's own socket")
        if runtime is not None:
            self._require(runtime, await self.info())
        if not self._is_docker:
            del body["HostConfig"]["LogConfig"]  # Podman has other drivers and refuses Docker's
        with _asking():
            container = await self._docker.containers.create(body, name=spec.name)
            made = await container.show()
        different = deviations(body, made, docker=self._is_docker)
        if different:
            await self.remove(container.id)
            raise EngineError(
                f"The engine made a container that differs from what was asked for: {', '.join(different)}. "
                "A limit may be unknown to this kernel, or the image may declare volumes of its own; nothing was run"
            )
        return container.id

    async def put(self, container_id: str, path: str, tar: bytes | AsyncIterator[bytes]) -> None:
        """What ``tar`` itself raises comes out as it is, not as the engine's fault; a part of it may be unpacked."""
        with _asking():
            shown = await self._docker.containers.container(container_id).show()
        if path not in {mount["Destination"] for mount in shown["Mounts"] if mount["Type"] == "volume"}:
            raise EngineError(f"{path} is no volume of this container; inputs are put into volumes alone")
        if shown["State"]["Status"] != "created":
            raise EngineError("The container has been started; inputs are put before that")
        source = _Source()
        try:
            with _asking():
                answer = await self._docker.session.put(
                    self._address(container_id, "archive"),
                    params={"path": path},
                    data=tar if isinstance(tar, bytes) else source.chunks(tar),
                    timeout=_LONG,
                    headers={"Content-Type": "application/x-tar"},
                )
                async with answer:
                    await _fine(answer)
        except EngineError:
            if source.failed is None:
                raise
            raise source.failed from None

    async def start(self, container_id: str) -> None:
        with _asking():
            await self._docker.containers.container(container_id).start()

    async def follow(self, container_id: str) -> AsyncIterator[bytes]:
        """Raises EngineUnavailable when the stream breaks off and the container still runs."""
        with _asking():
            address = self._address(container_id, "logs")
            query = {"follow": "1", "stdout": "1", "stderr": "0"}
            answer = await self._docker.session.get(address, params=query, timeout=_LONG)
        async with answer:
            with _asking():
                await _fine(answer)
            said = lines(unframed(answer.content.iter_chunked(_CHUNK_BYTES)))
            async with aclosing(said):
                while True:
                    with _asking():
                        line = await anext(said, None)
                    if line is None:
                        break
                    yield line
        if (await self._state(container_id))["Running"]:
            raise EngineUnavailable("The engine's log stream ended before its container; follow it again")

    async def wait(self, container_id: str) -> Exit:
        """Returns at once for a container that was never started, with the code 0 that the engine tells."""
        with _asking():
            await self._docker.containers.container(container_id).wait(timeout=_LONG)
        state = await self._state(container_id)
        return Exit(code=int(state["ExitCode"]), oom=bool(state.get("OOMKilled")))

    async def stop(self, container_id: str, grace_s: float) -> None:
        limit = aiohttp.ClientTimeout(total=grace_s + _STOP_SLACK_S, sock_connect=_CONNECT_S)
        with _asking():
            await self._docker.containers.container(container_id).stop(t=math.ceil(grace_s), timeout=limit)

    async def kill(self, container_id: str) -> None:
        """Nothing happens when it is not running."""
        with _asking(fine=(409,)):
            await self._docker.containers.container(container_id).kill(timeout=_SHORT)

    async def collect(self, container_id: str, path: str, max_bytes: int) -> AsyncIterator[bytes]:
        with _asking():
            address = self._address(container_id, "archive")
            answer = await self._docker.session.get(address, params={"path": path}, timeout=_LONG)
        async with answer:
            with _asking():
                await _fine(answer)
            chunks = bounded(answer.content.iter_chunked(_CHUNK_BYTES), max_bytes)
            async with aclosing(chunks):
                while True:
                    try:
                        with _asking():
                            chunk = await anext(chunks, None)
                    except OverflowError:
                        answer.close()
                        raise EngineError(f"{path} holds more than {max_bytes} bytes; it was not collected") from None
                    if chunk is None:
                        return
                    yield chunk

    async def written_bytes(self, container_id: str) -> int:
        """As the engine adds it up: apparent sizes, so that a sparse file counts in full. One question at a time:
        the engine walks every volume for each, and older ones refuse a second question meanwhile."""
        async with self._usage_lock:
            with _asking():
                shown = await self._docker.containers.container(container_id).show(size=1)
                usage = await self._read("system/df", _LONG)
        mine = {mount["Name"] for mount in shown["Mounts"] if mount["Type"] == "volume"}
        sizes = [
            max(0, int((volume.get("UsageData") or {}).get("Size", 0)))
            for volume in usage.get("Volumes") or ()
            if volume["Name"] in mine
        ]
        return int(shown.get("SizeRw") or 0) + sum(sizes)

    async def remove(self, container_id: str) -> None:
        """A shared volume (ContainerSpec.workspace_volume) goes with the last container that uses it."""
        container = self._docker.containers.container(container_id)
        shared: list[str] = []
        with _asking(fine=(404,)):
            shown = await container.show()
            shared = [one["Name"] for one in shown["Mounts"] if str(one.get("Name", "")).startswith(NAMED_VOLUME)]
        with _asking(fine=(404, 409)):  # 409: it is being removed
            await container.delete(force=True, v=True, timeout=_SHORT)
        for name in shared:
            with _asking(fine=(404, 409)):  # 409: another container uses it
                async with self._docker.session.delete(self._url(f"volumes/{name}"), timeout=_SHORT) as answer:
                    await _fine(answer)

    async def containers(self, label: str, value: str | None = None) -> tuple[Found, ...]:
        wanted = label if value is None else f"{label}={value}"
        with _asking():
            listed = await self._read("containers/json", all="1", filters=_filter(wanted))
        return tuple(
            Found(
                id=one["Id"],
                name=one["Names"][0].removeprefix("/") if one.get("Names") else "",
                running=one.get("State") == "running",
                labels={key: text for key, text in (one.get("Labels") or {}).items() if text},
                created_at_s=float(one["Created"]),
            )
            for one in listed
            if (one.get("Labels") or {}).get(label)  # a commit leaves empty ones behind
        )

    # images

    async def commit(self, container_id: str, tag: str, labels: tuple[tuple[str, str], ...]) -> str:
        """The container's own labels stay behind as empty ones, which ``images`` and ``containers`` do not count. An
        older Docker notes the container's command, variables with it, in the image's ``ContainerConfig``, which no
        container inherits."""
        container = self._docker.containers.container(container_id)
        with _asking():
            shown = await container.show()
        if shown["State"]["Status"] not in {"created", "exited"}:
            raise EngineError("The container still runs; its root is kept after its end alone")
        blank = dict.fromkeys(shown["Config"].get("Labels") or {}, "")
        config = {"Labels": {**blank, **dict(labels)}, "Entrypoint": ["/bin/false"]}  # its command stays behind too
        repository, _, version = tag.rpartition(":")
        with _asking():
            made = await container.commit(repository=repository, tag=version, config=config, pause=False)
        return str(made["Id"])

    async def has_image(self, tag: str) -> bool:
        with _asking():
            listed = await self._read("images/json", filters=json.dumps({"reference": [tag]}))
        return bool(listed)

    async def remove_image(self, tag: str) -> None:
        """Nothing happens when it is gone. Raises EngineError while a running container uses it."""
        with _asking(fine=(404,)):
            await self._docker.images.delete(tag, force=True)

    async def images(self, label: str) -> dict[str, float]:
        with _asking():
            listed = await self._read("images/json", filters=_filter(label))
        return {
            tag: float(image["Created"])
            for image in listed
            if (image.get("Labels") or {}).get(label)
            for tag in image.get("RepoTags") or ()
        }

    # the wire

    async def _state(self, container_id: str) -> dict[str, Any]:
        with _asking():
            shown = await self._docker.containers.container(container_id).show()
        state: dict[str, Any] = shown["State"]
        return state

    async def _read(self, path: str, limit: aiohttp.ClientTimeout = _SHORT, **query: str) -> Any:
        async with self._docker.session.get(self._url(path), params=query, timeout=limit) as answer:
            await _fine(answer)
            return await answer.json()

    def _address(self, container_id: str, what: str) -> str:
        return self._url(f"containers/{container_id}/{what}")

    def _url(self, path: str) -> str:
        return f"{self._docker.docker_host}/{self._docker.api_version}/{path}"


class _Source:
    """Remembers why a stream of inputs ended early; the HTTP client would call that a lost connection."""

    def __init__(self) -> None:
        self.failed: Exception | None = None

    async def chunks(self, tar: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in tar:
                yield chunk
        except Exception as error:
            self.failed = error
            raise


async def _fine(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        text = (await answer.content.read(4096)).decode("utf-8", "replace")
        raise aiodocker.DockerError(answer.status, text)


def _filter(label: str) -> str:
    return json.dumps({"label": [label]})


@contextmanager
def _asking(fine: tuple[int, ...] = ()) -> Iterator[None]:
    """Translates what goes wrong inside. An answer with a status of ``fine`` ends the block as if all were well."""
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status in fine:
            return
        if error.status == _NO_CONNECTION:
            raise _unavailable(error.message) from error
        text = _one_line(error.message)
        if error.status == 404 and "no such container" in text.lower():
            raise ContainerGone(f"The container is gone: {text}") from error
        raise EngineError(f"The engine refused with {error.status}: {text}") from error
    except (aiohttp.ClientError, TimeoutError, OSError, BrokenStream) as error:
        raise _unavailable(f"{type(error).__name__} {error}") from error


def _unavailable(reason: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"The container engine does not answer ({_one_line(reason)}); see that it runs and that [sandbox] engine_url "
        "names its socket and this user may open it"
    )


def _one_line(text: str) -> str:
    """What an engine says may quote what a container said: one printable line of it."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:_TEXT_MAX]).strip()

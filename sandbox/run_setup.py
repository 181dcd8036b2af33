"""In what image does the agent run, and on what tree? Everything of an attempt that comes before its agent.

    git source -> checkout container -> its workspace
    a script   -> kept image found? maintenance script in it : set-up script in the agent image, then kept
    otherwise  -> the agent image and the upload as it is

Rules that hold:

* a kept image is found by its key alone (tenant, environment, scripts, secret versions, lock files, base image) and
  is no older than ``cache_s``;
* the workspace is never part of an image: it goes on as a tar stream, through the next container's volume;
* before a set-up is kept, its files are searched for the values of the secrets it was given. When one is found the
  layer is thrown away, the log says so, and the agent works in the plain image: a secret never reaches it;
* attempts of one worker that miss the same key wait for the first one's set-up, and then hit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from sandbox.engine import EngineError, EngineUnavailable
from sandbox.run_plan import LABEL_ENVIRONMENT, Step, adopt_tree, checkout, environment_image, set_up
from sandbox.run_step import StepEnd, Stepper, Workspace, nothing
from sandbox.run_trees import LOCKFILES, TREE_BYTES, only_file, root_files
from sandbox.types import ArchiveSource, Ended, GitSource

LOCKFILE_BYTES: Final = 16 << 20
LAYER_BYTES: Final = 64 << 30
NOT_KEPT: Final = (
    "the value of a secret was found in what the set-up wrote; its layer was thrown away and the agent works without "
    "it; let the script remove the secret from what it leaves"
)


class InputRefused(Exception):
    """The source cannot be had; str() says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the agent starts with. ``failed``: the step that ended the attempt before its agent."""

    image: str
    workspace: Workspace | None
    setup_log: bytes = b""
    container_id: str | None = None
    failed: StepEnd | None = None


@dataclass(slots=True)
class Preparer:
    """Prepares one attempt. Errors are those of Stepper, and InputRefused."""

    stepper: Stepper

    async def prepare(self) -> Prepared:
        """See the module."""
        stepper, source = self.stepper, self.stepper.spec.source
        image = stepper.environment.image or stepper.tools.image
        start = Prepared(image, None)
        if isinstance(source, GitSource):
            start = await self._step(checkout(source, image), start)
        elif isinstance(source, ArchiveSource):
            start = Prepared(image, await self._upload(source))
        scripts = stepper.environment.setup_script + stepper.environment.maintenance_script
        if start.failed is None and scripts.strip():
            start = await self._scripts(start, await self._lockfiles(start))
        if start.container_id is None:
            start = await self._step(adopt_tree(start.image), start)
        return start

    async def _scripts(self, start: Prepared, lockfiles: dict[str, bytes]) -> Prepared:
        tools, environment = self.stepper.tools, self.stepper.environment
        key = tools.cache_key(environment, start.image, lockfiles)
        tag = environment_image(key)
        async with tools.locks.setdefault(key, asyncio.Lock()):
            kept = await self._kept(tag)
            if not kept and environment.setup_script.strip():
                return await self._fresh(tag, start)
        if not kept:
            return await self._maintained(start)
        await self.stepper.log.say("environment", cached=True, image=tag)
        return await self._maintained(replace(start, image=tag))

    async def _maintained(self, start: Prepared) -> Prepared:
        step = set_up(self.stepper.environment, start.image, kept=True)
        return start if step is None else await self._step(step, start)

    async def _fresh(self, tag: str, start: Prepared) -> Prepared:
        stepper = self.stepper
        step = set_up(stepper.environment, start.image, kept=False)
        if step is None:
            return start
        await stepper.log.say("environment", cached=False, image=start.image)
        done = await self._step(step, start)
        if done.failed is not None:
            return done
        assert done.container_id is not None
        name = await self._leaked(step, done.container_id)
        if name is not None:
            await stepper.log.say("environment_not_kept", secret=name, reason=NOT_KEPT)
            return done
        labels = ((LABEL_ENVIRONMENT, stepper.environment.id),)
        await stepper.tools.engine.commit(done.container_id, tag, labels)
        return replace(done, image=tag)

    async def _step(self, step: Step, start: Prepared) -> Prepared:
        """Runs a step of the set-up on the tree so far."""
        stepper = self.stepper
        container_id = await stepper.begin(step, start.workspace)
        end = await stepper.finish(step, container_id, nothing)
        log = start.setup_log + end.setup_log
        failed = None if end.ended is Ended.DONE else end
        return Prepared(start.image, stepper.left_by(container_id), log, container_id, failed)

    async def _kept(self, tag: str) -> bool:
        tools = self.stepper.tools
        made_at_s = (await tools.engine.images(LABEL_ENVIRONMENT)).get(tag)
        return made_at_s is not None and tools.clock.now_s() - made_at_s < tools.cache_s

    async def _leaked(self, step: Step, container_id: str) -> str | None:
        """The name of a secret whose value is in what the container wrote; also when that could not be searched."""
        if not step.secrets:
            return None
        tools = self.stepper.tools
        try:
            return await tools.leaked(tools.engine.collect(container_id, "/", LAYER_BYTES), step.secrets)
        except EngineUnavailable:
            raise
        except EngineError:
            return step.secrets[0][0]

    async def _upload(self, source: ArchiveSource) -> Workspace:
        tools = self.stepper.tools
        if await tools.results.size(source.blob) is None:
            raise InputRefused("the upload is not there any more; upload it again")

        async def stream() -> AsyncIterator[bytes]:
            found = await tools.results.get(source.blob)
            if found is not None:
                async for piece in found:
                    yield piece

        return stream

    async def _lockfiles(self, start: Prepared) -> dict[str, bytes]:
        """Lock files at the root of the tree, by name."""
        if start.workspace is None:
            return {}
        if start.container_id is None:
            return await root_files(start.workspace(), LOCKFILES, LOCKFILE_BYTES)
        found = {}
        for name in LOCKFILES:
            try:
                tar = self.stepper.tools.engine.collect(start.container_id, f"/workspace/{name}", TREE_BYTES)
                found[name] = await only_file(tar)
            except EngineUnavailable:
                raise
            except (EngineError, ValueError):
                continue  # there is none
        return found

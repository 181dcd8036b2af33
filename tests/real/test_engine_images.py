"""Images at a real engine: what the agent image holds, and what is kept of a container's root."""

from __future__ import annotations

import json
import secrets

import pytest

from sandbox.docker import DockerEngine
from sandbox.engine import LABEL_OWNER, LABEL_TASK
from sandbox.types import Phase
from tests.real.agent_image import AgentImage
from tests.real.test_engine import said_by, spec

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(900)]
CACHE = "codex-relay.cache"


async def test_the_image_holds_what_a_task_needs(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    """As the agent's user: the Codex CLI, git, ripgrep, the runner, and folders that it may write."""
    script = (
        "import os, subprocess as s\n"
        "for c in (['codex', '--version'], ['git', '--version'], ['rg', '--version']):\n"
        "    print(s.run(c, capture_output=True, text=True).stdout.split(chr(10))[0], flush=True)\n"
        "print([p for p in ('/workspace', '/task', '/out', '/home/agent', '/tmp') if not os.access(p, os.W_OK)])\n"
        "print(s.run(['python3', '-I', '/opt/agent/runner'], capture_output=True, text=True).stderr.count('Import'))\n"
        "print(os.path.isdir(os.environ['CODEX_HOME']), os.access('/opt/agent/runner/runner.py', os.W_OK))"
    )
    container = await agent_engine.create(spec(agent_image, script))
    try:
        await agent_engine.start(container)
        codex, git, rg, *rest = await said_by(agent_engine, container)
    finally:
        await agent_engine.remove(container)
    assert codex.startswith(b"codex-cli ")
    assert git.startswith(b"git version ")
    assert rg.startswith(b"ripgrep ")
    assert rest == [b"[]", b"0", b"True False"]


async def test_a_root_is_kept_without_what_is_secret_or_passing(
    agent_engine: DockerEngine, agent_image: AgentImage
) -> None:
    tag = f"codex-relay-test-kept:{secrets.token_hex(4)}"
    script = "import os; open('/opt/tool', 'w').write('kept'); open('/workspace/gone', 'w').write(os.environ['WORD'])"
    container = await agent_engine.create(spec(agent_image, script, Phase.SETUP, environment=(("WORD", "plain-text"),)))
    try:
        await agent_engine.start(container)
        await agent_engine.wait(container)
        assert not await agent_engine.has_image(tag)
        made = await agent_engine.commit(container, tag, ((CACHE, "key"),))
    finally:
        await agent_engine.remove(container)
    try:
        assert await agent_engine.has_image(tag)
        told = json.loads(agent_image.docker.run("image", "inspect", tag))[0]
        assert told["Id"] == made
        assert "plain-text" not in json.dumps(told["Config"])
        assert list(await agent_engine.images(CACHE)) == [tag]
        assert await agent_engine.images(LABEL_TASK) == {}
        shows = (
            "import os; print(open('/opt/tool').read(), os.listdir('/workspace'), 'WORD' in os.environ, os.getuid())"
        )
        container = await agent_engine.create(spec(agent_image, shows, image=tag, labels=((LABEL_OWNER, "test"),)))
        try:
            await agent_engine.start(container)
            assert await said_by(agent_engine, container) == [b"kept [] False 10001"]
            assert await agent_engine.containers(LABEL_TASK) == ()
        finally:
            await agent_engine.remove(container)
    finally:
        await agent_engine.remove_image(tag)
    await agent_engine.remove_image(tag)
    assert not await agent_engine.has_image(tag)

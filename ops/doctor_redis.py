"""Is the Redis that the durable records rest in reachable, ours, and set up to keep them?

Rules that hold: nothing is changed and no store is begun; what the server does not let us ask is said to be unknown,
never taken for well. A server that keeps no append-only file, or evicts, is a warning and not a failure: the gateway
serves, and the records may be lost.
"""

from __future__ import annotations

from ops.clock import Clock
from ops.findings import Finding, fail, halves, ok, warn
from ops.sections.keep import StoreSettings
from store.errors import StoreError
from store.keyfile import KeyProvider
from store.redis_link import RedisLink
from store.redis_open import ask_keeping, is_empty
from store.redis_store import RedisStore
from store.vault import Vault

_NAME = "store"


async def examine_redis(settings: StoreSettings, keys: KeyProvider) -> tuple[list[Finding], RedisStore | None]:
    """What was found, and the store to look into, which the caller closes; None when there is none that opens."""
    try:
        link = RedisLink(settings.url, name="codex-relay:doctor", timeout_s=settings.busy_timeout_s, retries=1)
    except StoreError as error:
        return [fail(_NAME, *halves(str(error), "see docs/redis.md"))], None
    try:
        empty = await is_empty(link, settings.redis_prefix)
        findings = await check_keeping(link)
    except StoreError as error:
        return [fail(_NAME, *halves(str(error), "check store.url and that Redis runs"))], None
    finally:
        await link.close()
    if empty:
        nothing = f"{link.where} holds nothing under {settings.redis_prefix!r} yet"
        return [*findings, warn(_NAME, nothing, "the first start begins it")], None
    try:
        store = await RedisStore.open(
            settings.url,
            Vault(keys.load(), keys),
            prefix=settings.redis_prefix,
            timeout_s=settings.busy_timeout_s,
            create=False,
        )
    except StoreError as error:
        return [*findings, fail(_NAME, *halves(str(error), "see docs/redis.md"))], None
    return findings, store


async def check_hot(settings: StoreSettings, clock: Clock) -> Finding | None:
    """Whether the hot store answers in time; None when there is none. Losing it is a warning: the gateway serves on."""
    name = "hot store"
    if settings.hot_url is None:
        return None
    try:
        link = RedisLink(settings.hot_url, name="codex-relay:doctor", timeout_s=settings.busy_timeout_s)
    except StoreError as error:
        return fail(name, *halves(str(error), "correct store.hot_url"))
    try:
        await link.call("PING", again=True)
        began_s = clock.monotonic_s()
        await link.call("PING", again=True)
        took_ms = (clock.monotonic_s() - began_s) * 1e3
    except StoreError as error:
        return warn(name, *halves(str(error), "check store.hot_url and that Redis runs; workers go on, each by itself"))
    finally:
        await link.close()
    if took_ms > settings.redis_timeout_ms / 2:
        return warn(name, f"{link.where} took {took_ms:.0f} ms for a ping", "bring it nearer or raise redis_timeout_ms")
    return ok(name, f"{link.where} answers in {took_ms:.1f} ms")


async def check_keeping(link: RedisLink) -> list[Finding]:
    """One finding for each setting of the server that may lose records. Raises StoreUnavailable, StoreUnusable."""
    name = "redis keeps"
    warnings = (await ask_keeping(link)).warnings()
    if not warnings:
        return [ok(name, f"{link.where}: append-only file on the disk before an answer, nothing evicted")]
    return [warn(name, *halves(f"{link.where}: {line}", "see docs/redis.md")) for line in warnings]

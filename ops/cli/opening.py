"""How a command opens the store that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ops.cli.output import fail, say
from ops.clock import Clock
from ops.settings import Settings
from store.base import Store
from store.open import StoreKind, prepare_key, store_kind
from store.open import open_store as open_url


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock) -> AsyncIterator[Store]:
    """The store, with the hot one before it, closed afterwards.

    The first command on an empty folder makes the key, as the first start would.
    """
    from ops.house_fleet import with_hot
    from ops.house_store import keys_of

    if store_kind(settings.store.url) is StoreKind.MEMORY:
        fail("setting store.url is memory://, which no other process sees; set it to sqlite:///PATH")
    values = settings.store
    keys = keys_of(settings)
    made = prepare_key(keys, values.url, prefix=values.redis_prefix)
    if made is not None:
        say(f"made {made}: back it up, without it the stored tokens are lost")
    durable = await open_url(
        values.url, keys=keys, busy_timeout_s=values.busy_timeout_s, verify=False, prefix=values.redis_prefix
    )
    store = with_hot(settings, durable, clock)
    try:
        yield store
    finally:
        await store.close()

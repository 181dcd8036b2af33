"""How a command opens the store that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ops.cli.output import fail, say
from ops.clock import Clock
from ops.settings import Settings
from store.base import Store
from store.keyfile import KeyProvider
from store.open import key_provider, prepare_key, sqlite_path
from store.open import open_store as open_url
from store.records import Secret


def keys_of(settings: Settings) -> KeyProvider:
    """The provider of the key that ``[vault]`` names."""
    given = settings.vault.key
    value = None if given is None else Secret(given.get_secret_value())
    return key_provider(settings.vault.provider, value, settings.vault.key_file)


@asynccontextmanager
async def open_store(settings: Settings, _clock: Clock) -> AsyncIterator[Store]:
    """The store, closed afterwards. The first command on an empty folder makes the key, as the first start would."""
    if sqlite_path(settings.store.url) is None:
        fail("setting store.url is memory://, which no other process sees; set it to sqlite:///PATH")
    keys = keys_of(settings)
    made = prepare_key(keys, settings.store.url)
    if made is not None:
        say(f"made {made}: back it up, without it the stored tokens are lost")
    store = await open_url(settings.store.url, keys=keys, busy_timeout_s=settings.store.busy_timeout_s, verify=False)
    try:
        yield store
    finally:
        await store.close()

"""Who is told: the webhooks that the settings name, and the alerts that go to them."""

from __future__ import annotations

import contextlib
import random

import httpx

from ops.alerts import Alerts
from ops.clock import Clock
from ops.metrics import Metrics
from ops.settings import Settings, SettingsError
from ops.webhooks import Webhooks, WebhookValues, webhook_values
from store.base import Store
from store.records import Secret


def webhook_settings(settings: Settings) -> WebhookValues | None:
    """The values of ``[webhooks]``; None when no target is named. Raises SettingsError."""
    given = settings.webhooks
    secret = None if given.secret is None else Secret(given.secret.get_secret_value())
    try:
        return webhook_values(given.urls, secret, given.timeout_s, given.give_up_s, given.allow_private)
    except ValueError as error:
        raise SettingsError(f"setting webhooks: {error}") from None


async def webhooks_of(
    settings: Settings, store: Store, clock: Clock, worker: str, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Webhooks | None:
    """The sender, closed with ``stack``; its ``step`` has to be called every few seconds."""
    values = webhook_settings(settings)
    if values is None:
        return None
    client = await stack.enter_async_context(httpx.AsyncClient(follow_redirects=False, trust_env=False))
    return Webhooks(values, store, client, clock, random.SystemRandom(), worker, metrics.webhooks.inc)


def alerts_of(metrics: Metrics, webhooks: Webhooks | None, clock: Clock) -> Alerts:
    return Alerts(metrics.alerts.inc, webhooks, clock)

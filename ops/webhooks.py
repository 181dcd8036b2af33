"""How do other systems hear of what needs a person? Signed messages that survive a restart and lead nowhere private.

    send      -> kept for a moment -> the outbox (documents of the store) -> delivered, or tried again with growing
                 pauses until ``give_up_s``, then set aside as dead (kept a week, counted, logged)

Rules that hold:

* at least once, in no promised order: the id of the message tells a repetition;
* one worker of the whole fleet delivers a message at a time (a claim in the store);
* https on 443 or 8443 only; the target is resolved once, every address checked, and the connection goes to the
  checked address with the name for TLS and Host; redirects are not followed; targets inside ``allow_private`` may
  also use http and any port;
* ``x-codex-relay-signature: t=<unix>,v1=<HMAC-SHA256 of "t.id.body">``; without a secret of 32 bytes nothing starts;
* a message holds no secret and no content of requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import httpx
import msgspec

from ops.addresses import AddressRefused, Network, Resolver, checked_address, literal, networks
from ops.clock import Clock
from ops.log import get_logger
from store.errors import Conflict, NotFound
from store.records import Claim, Document, Secret

OUTBOX: Final = "webhook"
DEAD: Final = "webhook_dead"
DEAD_KEPT_S: Final = 7 * 86_400.0
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 3600.0
CLAIM_S: Final = 60.0
WINDOW_S: Final = 300.0
ANSWER_BYTES: Final = 4096
WAITING_MAX: Final = 1000
SECRET_BYTES: Final = 32
_PORTS: Final = frozenset({443, 8443})
_HEADER: Final = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


class Outbox(Protocol):
    """What is asked of the store."""

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]: ...

    async def add_document(self, document: Document) -> Document: ...

    async def put_document(self, document: Document, expected_version: int) -> Document: ...

    async def remove_document(self, kind: str, document_id: str) -> bool: ...

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None: ...

    async def release(self, claim: Claim) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    """One message for one target, as it waits. ``body`` is what is signed and sent."""

    id: str
    url: str
    body: str
    created_at_s: float
    next_at_s: float
    tries: int = 0
    last: str = ""


@dataclass(frozen=True, slots=True)
class WebhookValues:
    """The settings' values. ``private``: networks that targets may lie in all the same."""

    urls: tuple[str, ...]
    secret: Secret
    timeout_s: float = 5.0
    give_up_s: float = 86_400.0
    private: tuple[Network, ...] = ()


def webhook_values(
    urls: Sequence[str], secret: Secret | None, timeout_s: float, give_up_s: float, allow_private: Sequence[str]
) -> WebhookValues | None:
    """Checked values; None when there is no target. Raises ValueError with one line that names the cause."""
    if not urls:
        return None
    if secret is None or len(secret.reveal().encode()) < SECRET_BYTES:
        raise ValueError(
            f"webhooks.secret must have at least {SECRET_BYTES} bytes; make one with: openssl rand -hex 32"
        )
    private = networks(allow_private)
    for url in urls:
        target_of(url, private)
    return WebhookValues(tuple(urls), secret, timeout_s, give_up_s, private)


def target_of(url: str, private: Sequence[Network] = ()) -> httpx.URL:
    """The URL, if its form is allowed. Raises ValueError."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"a webhook URL cannot be read: {error}") from None
    if found.scheme not in ("https", "http") or not found.host or found.userinfo or found.fragment:
        raise ValueError("a webhook URL must be https://host/path without a user or a fragment")
    port = found.port or (443 if found.scheme == "https" else 80)
    if not private and (found.scheme != "https" or port not in _PORTS):
        raise ValueError("a webhook URL must be https on port 443 or 8443")
    return found


def signature(secret: Secret, at_s: int, message_id: str, body: bytes) -> str:
    """The value of ``x-codex-relay-signature``."""
    text = f"{at_s}.{message_id}.".encode() + body
    return f"t={at_s},v1={hmac.new(secret.reveal().encode(), text, hashlib.sha256).hexdigest()}"


def verify(secret: Secret, header: str, message_id: str, body: bytes, now_s: float) -> bool:
    """Whether a message is ours and at most five minutes old: what a receiver does, in constant time."""
    match = _HEADER.fullmatch(header)
    if match is None or abs(now_s - int(match[1])) > WINDOW_S:
        return False
    return hmac.compare_digest(signature(secret, int(match[1]), message_id, body), header)


@dataclass(slots=True)
class Webhooks:
    """Sends messages. One per process; ``step`` is called every few seconds by whoever owns the loop.

    ``count`` hears "delivered", "retried" or "dead" for the metrics. ``worker`` names this process in claims.
    """

    values: WebhookValues
    store: Outbox
    client: httpx.AsyncClient
    clock: Clock
    rng: random.Random
    worker: str
    count: Callable[[str], None]
    resolve: Resolver | None = None
    _waiting: deque[Message] = field(default_factory=lambda: deque(maxlen=WAITING_MAX))

    def send(self, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """Takes a message; never blocks and never raises. ``text`` is one line for people, ``data`` is for machines."""
        now_s = self.clock.now_s()
        event = f"evt_{secrets.token_hex(16)}"
        body = {"id": event, "type": kind, "created_at_s": round(now_s, 3), "text": text, "data": dict(data)}
        for number, url in enumerate(self.values.urls):
            self._waiting.append(Message(f"{event}.{number}", url, msgspec.json.encode(body).decode(), now_s, now_s))

    async def step(self) -> None:
        """Puts what waits into the outbox and delivers what is due. Raises StoreError; nothing is lost then."""
        while self._waiting:
            message = self._waiting[0]
            await self.store.add_document(_document(message, self.values.give_up_s))
            self._waiting.popleft()
        now_s = self.clock.now_s()
        for document in await self.store.documents(OUTBOX):
            message = msgspec.json.decode(document.body, type=Message)
            if message.next_at_s <= now_s:
                await self._deliver_once(document, message)

    async def _deliver_once(self, document: Document, message: Message) -> None:
        claim = await self.store.claim(f"webhook:{message.id}", self.worker, CLAIM_S)
        if claim is None:
            return
        try:
            failure = await self._deliver(message)
            if failure is None:
                self.count("delivered")
                await self.store.remove_document(OUTBOX, message.id)
            else:
                await self._put_off(document, message, failure)
        except (Conflict, NotFound):
            pass  # another worker had it first
        finally:
            await self.store.release(claim)

    async def _put_off(self, document: Document, message: Message, failure: str) -> None:
        now_s = self.clock.now_s()
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(message.tries, 20), LONGEST_PAUSE_S)
        pause_s *= 0.8 + 0.4 * self.rng.random()
        later = replace(message, tries=message.tries + 1, next_at_s=now_s + pause_s, last=failure)
        if later.next_at_s - message.created_at_s <= self.values.give_up_s and failure != "gone":
            self.count("retried")
            await self.store.put_document(replace(document, body=msgspec.json.encode(later)), document.version)
            return
        self.count("dead")
        get_logger().error("webhook_dead", message_id=message.id, tries=later.tries, last=failure)
        await self.store.add_document(
            Document(DEAD, message.id, msgspec.json.encode(later), expires_at_s=now_s + DEAD_KEPT_S)
        )
        await self.store.remove_document(OUTBOX, message.id)

    async def _deliver(self, message: Message) -> str | None:
        """Sends it once; None when it was taken, else a word on why not."""
        try:
            async with asyncio.timeout(self.values.timeout_s):
                return await self._post(message)
        except TimeoutError:
            return "timeout"
        except (AddressRefused, ValueError) as error:
            return f"refused: {error}"
        except httpx.HTTPError as error:
            return type(error).__name__

    async def _post(self, message: Message) -> str | None:
        url = target_of(message.url, self.values.private)
        port = url.port or (443 if url.scheme == "https" else 80)
        address = await checked_address(url.host, port, resolve=self.resolve, private=self.values.private)
        _open_form(url, port, address, self.values.private)
        body = message.body.encode()
        event = message.id.partition(".")[0]
        headers = {
            "host": url.netloc.decode(),
            "content-type": "application/json",
            "user-agent": "codex-relay",
            "x-codex-relay-event": event,
            "x-codex-relay-signature": signature(self.values.secret, int(self.clock.now_s()), event, body),
        }
        request = self.client.build_request(
            "POST", url.copy_with(host=address), content=body, headers=headers, extensions={"sni_hostname": url.host}
        )
        response = await self.client.send(request, stream=True, follow_redirects=False)
        try:
            seen = 0
            async for piece in response.aiter_raw():
                seen += len(piece)
                if seen >= ANSWER_BYTES:
                    break
        finally:
            await response.aclose()
        if response.is_success:
            return None
        return "gone" if response.status_code == 410 else f"status {response.status_code}"


def _open_form(url: httpx.URL, port: int, address: str, private: Sequence[Network]) -> None:
    """http and other ports are for targets in named networks only. Raises ValueError."""
    found = literal(address.partition("%")[0])
    inside = found is not None and any(found.version == one.version and found in one for one in private)
    if not inside and (url.scheme != "https" or port not in _PORTS):
        raise ValueError("a target outside allow_private must be https on port 443 or 8443")


def _document(message: Message, give_up_s: float) -> Document:
    """It outlives its last try, so that it is set aside by us and not forgotten by the store."""
    expires_at_s = message.created_at_s + give_up_s + DEAD_KEPT_S
    return Document(OUTBOX, message.id, msgspec.json.encode(message), expires_at_s)

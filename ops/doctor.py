"""Is everything in place for the gateway to serve? One small check per question, each with the fix in its answer.

Rules that hold:

* nothing is changed and nothing is made: an empty folder stays empty;
* no check sends a credential; reachability is one GET without any, and every HTTP answer counts as reached;
* a check never raises for what it looks at: a cause that it knows is ``fail`` or ``warn``, with one line;
* ``fail`` means that the gateway would not start or could serve nobody, ``warn`` that something is amiss or will be.

What it does not do: repair, load tests, judging single accounts (``codex-relay accounts why``).
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import os
import resource
import socket
import ssl
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import httpx
from cryptography import x509

from ops.clock import Clock
from ops.doctor_keys import examine_keys
from ops.doctor_redis import check_hot, examine_redis
from ops.findings import Finding, fail, halves, ok, warn
from ops.sections.keep import StoreSettings
from ops.sections.relay import ServerSettings, UpstreamSettings
from ops.settings import Settings
from store.base import Store
from store.errors import StoreError
from store.keyfile import KeyProvider
from store.open import StoreKind, open_store, sqlite_path, store_kind
from store.records import Account, AccountStatus, ClientKey, Credential, RefreshState

_EARLIEST_S: Final = 1_767_225_600.0  # 2026-01-01: before it no release existed
_SKEW_S: Final = 120.0
_CERTIFICATE_S: Final = 14 * 86_400.0
_REACH_TIMEOUT_S: Final = 10.0


async def examine(settings: Settings, keys: KeyProvider, clock: Clock) -> list[Finding]:
    """Every check, in the order in which an operator would ask. Takes some ten seconds when the network is silent."""
    findings = [
        check_data_folder(settings.store),
        check_vault_key(settings.store, keys),
        check_workers(settings),
        *await examine_store(settings.store, keys, clock),
        *filter(None, [await check_hot(settings.store, clock)]),
        check_port(settings.server),
        check_tls(settings.server, clock.now_s()),
        check_open_files(settings.server, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ]
    upstream, issuer = await asyncio.gather(
        reach(settings.upstream, settings.upstream.base_url), reach(settings.upstream, settings.oauth.issuer)
    )
    findings.append(check_reached("upstream", "upstream.base_url", upstream))
    findings.append(check_reached("issuer", "oauth.issuer", issuer))
    findings.append(check_clock(clock.now_s(), upstream.date_s or issuer.date_s))
    return findings


def check_data_folder(store: StoreSettings) -> Finding:
    """The folder of the database is there, ours to write, and not open to others."""
    name = "data folder"
    path = _database(store)
    if path is None:
        return ok(name, "no database file to keep")
    folder = path.parent
    if not folder.exists():
        return warn(name, f"{folder} is not there yet", "the first start makes it; or: mkdir -m 700 " + str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(name, f"{folder} cannot be written", f"chown {os.getuid()} {folder}")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o022:
        return fail(name, f"{folder} may be written by others (mode {mode:04o})", f"chmod 700 {folder}")
    return ok(name, str(folder))


def check_vault_key(store: StoreSettings, keys: KeyProvider) -> Finding:
    """The key is there when it must be, is a key, and is ours alone."""
    name = "vault key"
    path = _database(store)
    if path is None and not _in_redis(store):
        return ok(name, "not needed by a store in memory")
    if not keys.present():
        if path is not None and path.exists():
            return fail(name, f"{keys.source} is missing, but {path} exists", "restore the key from its backup")
        return warn(name, f"{keys.source} is not there yet", "the first start makes it; back it up then")
    try:
        keys.load()
    except StoreError as error:
        return fail(name, *halves(str(error), "restore the key from its backup"))
    return ok(name, keys.source)


def check_workers(settings: Settings) -> Finding:
    """Several workers need a store that they can share."""
    name = "workers"
    if settings.server.workers > 1 and _database(settings.store) is None and not _in_redis(settings.store):
        fix = "set store.url to sqlite:///PATH, or server.workers to 1"
        return fail(name, f"{settings.server.workers} workers cannot share memory://", fix)
    return ok(name, f"{settings.server.workers} over {settings.store.url.partition(':')[0]}")


async def examine_store(settings: StoreSettings, keys: KeyProvider, clock: Clock) -> list[Finding]:
    """Opens the store with a full integrity check, writes nothing, and looks at accounts and keys."""
    name = "store"
    try:
        path = sqlite_path(settings.url)
    except StoreError as error:
        return [fail(name, *halves(str(error), "see docs/settings.md"))]
    if _in_redis(settings):
        return await _examine_redis(settings, keys, clock)
    if path is None:
        return [warn(name, "memory:// forgets everything when the process ends", "set store.url to sqlite:///PATH")]
    if not path.exists():
        return [
            warn(name, f"{path} is not there yet", "the first start makes it"),
            *check_accounts([], [], clock.now_s()),
            check_client_keys([], clock.now_s()),
        ]
    try:
        store = await open_store(settings.url, keys=keys, busy_timeout_s=settings.busy_timeout_s, verify=True)
    except StoreError as error:
        return [fail(name, *halves(str(error), "restore a backup (docs/operations.md)"))]
    try:
        return await _examine_records(store, keys, str(path), clock)
    except StoreError as error:
        return [fail(name, *halves(str(error), "see the log of the gateway"))]
    finally:
        await store.close()


async def _examine_redis(settings: StoreSettings, keys: KeyProvider, clock: Clock) -> list[Finding]:
    found, store = await examine_redis(settings, keys)
    if store is None:
        return found
    try:
        return [*found, *await _examine_records(store, keys, store.where, clock)]
    except StoreError as error:
        return [*found, fail("store", *halves(str(error), "see the log of the gateway"))]
    finally:
        await store.close()


async def _examine_records(store: Store, keys: KeyProvider, where: str, clock: Clock) -> list[Finding]:
    await store.check()
    accounts = await store.accounts()
    credentials = [await store.credential(account.id) for account in accounts]
    return [
        ok("store", f"{where}: whole, writable, the key opens it"),
        *check_accounts(accounts, credentials, clock.now_s()),
        check_client_keys(await store.keys(), clock.now_s()),
        *await examine_keys(store, keys.load(), clock.now_s()),
    ]


def check_accounts(
    accounts: Sequence[Account], credentials: Sequence[Credential | None], now_s: float
) -> Iterable[Finding]:
    """At least one account can serve; each that needs a person is named."""
    if not accounts:
        yield fail("accounts", "there is none", "codex-relay accounts import ~/.codex/auth.json")
        return
    usable = [one for one in accounts if one.enabled and one.status is AccountStatus.ACTIVE]
    if usable:
        yield ok("accounts", f"{len(usable)} of {len(accounts)} can serve")
    else:
        yield fail("accounts", f"none of {len(accounts)} can serve", "codex-relay accounts list shows why")
    for account, credential in zip(accounts, credentials, strict=True):
        if account.enabled:
            yield from _check_account(account, credential, now_s)


def _check_account(account: Account, credential: Credential | None, now_s: float) -> Iterable[Finding]:
    name = f"account {account.label}"
    again = "sign in with the Codex CLI and import its auth.json again"
    if account.status is AccountStatus.NEEDS_REAUTH:
        yield warn(name, f"needs a login: {account.status_reason or 'the issuer refused its refresh token'}", again)
    elif credential is None:
        yield warn(name, "has no credential", again)
    elif credential.refresh_state is not RefreshState.READY or credential.refresh_token is None:
        when = "has ended" if credential.expires_at_s <= now_s else "ends"
        yield warn(name, f"cannot refresh; it serves until its access token {when}", again)


def check_client_keys(keys: Sequence[ClientKey], now_s: float) -> Finding:
    """Somebody can call: without a key every request is refused."""
    living = [
        one for one in keys if one.revoked_at_s is None and (one.expires_at_s is None or one.expires_at_s > now_s)
    ]
    if not living:
        fix = "codex-relay keys create --tenant NAME"
        return fail("client keys", "there is none that works: every request answers 503 or 401", fix)
    return ok("client keys", f"{len(living)} work")


def check_port(server: ServerSettings) -> Finding:
    """The address can be listened on."""
    name = "listener"
    where = f"{server.host}:{server.port}"
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return warn(name, f"{where} is taken", "fine when the gateway runs; else set another server.port")
            return fail(name, f"{where}: {error.strerror or error}", "set server.host and server.port")
    return ok(name, f"{where} is free")


def check_tls(server: ServerSettings, now_s: float) -> Finding:
    """The certificate and its key can be read, belong together and have not run out."""
    name = "tls"
    certificate, key = server.tls_cert_file, server.tls_key_file
    if certificate is None and key is None:
        if _loopback(server.host):
            return ok(name, "off, on loopback")
        return warn(
            name, f"off, on {server.host}: keys travel in the clear", "set server.tls_cert_file, or use a proxy"
        )
    if certificate is None or key is None:
        return fail(name, "only one of certificate and key is set", "set server.tls_cert_file and server.tls_key_file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        ends_s = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return fail(name, f"{certificate} and {key}: {_first_line(error)}", "name a readable PEM chain and its key")
    if ends_s <= now_s:
        return fail(name, f"{certificate} has run out", "renew it")
    if ends_s - now_s < _CERTIFICATE_S:
        return warn(name, f"{certificate} runs out in {int((ends_s - now_s) // 86_400)} days", "renew it")
    return ok(name, str(certificate))


def check_open_files(server: ServerSettings, soft_limit: int) -> Finding:
    """A stream takes two descriptors: one to the client, one to the upstream."""
    needed = 2 * server.max_inflight + 256
    if soft_limit == resource.RLIM_INFINITY or soft_limit >= needed:
        return ok("open files", f"limit {soft_limit}")
    fix = f"ulimit -n {needed} (LimitNOFILE= in a unit), or lower server.max_inflight"
    return warn("open files", f"limit {soft_limit}, but server.max_inflight may need {needed}", fix)


@dataclass(frozen=True, slots=True)
class Reached:
    """What one GET came to: a status, or a problem in one line. ``date_s``: the other side's clock."""

    url: str
    status: int | None = None
    problem: str = ""
    challenged: bool = False
    date_s: float | None = None


async def reach(upstream: UpstreamSettings, url: str) -> Reached:
    """One GET of ``url`` without any credential, by the proxy and the trust that upstream traffic uses."""
    verify = ssl.create_default_context()
    try:
        if upstream.ca_file is not None:
            verify.load_verify_locations(upstream.ca_file)
        async with httpx.AsyncClient(
            verify=verify, proxy=upstream.proxy, timeout=_REACH_TIMEOUT_S, trust_env=False, follow_redirects=False
        ) as client:
            answer = await client.get(url, headers={"user-agent": upstream.user_agent})
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Reached(url, problem=f"{type(error).__name__}: {_first_line(error)}")
    date = answer.headers.get("date")
    return Reached(
        url,
        answer.status_code,
        challenged=answer.headers.get("cf-mitigated") == "challenge",
        date_s=_date_s(date) if date else None,
    )


def check_reached(name: str, setting: str, reached: Reached) -> Finding:
    """Any HTTP answer will do, but a challenge page or a redirect means that something stands in between."""
    if reached.status is None:
        return fail(name, f"{reached.url}: {reached.problem}", f"check the network, DNS, upstream.proxy and {setting}")
    if reached.challenged:
        return warn(name, f"{reached.url} answers with a challenge page", "leave by another network address")
    if 300 <= reached.status < 400:
        return warn(
            name, f"{reached.url} redirects ({reached.status}); redirects are never followed", f"check {setting}"
        )
    return ok(name, f"{reached.url} answers ({reached.status})")


def check_clock(now_s: float, other_s: float | None) -> Finding:
    """Token expiry is judged by this clock."""
    fix = "set the clock, for example with chrony or systemd-timesyncd"
    if now_s < _EARLIEST_S:
        return fail("clock", "is before this release was made", fix)
    if other_s is None:
        return ok("clock", "plausible; nobody to compare with")
    if abs(now_s - other_s) > _SKEW_S:
        return warn("clock", f"is {now_s - other_s:+.0f} s off from the other side's", fix)
    return ok("clock", "agrees with the other side")


def _database(store: StoreSettings) -> Path | None:
    try:
        return sqlite_path(store.url)
    except StoreError:
        return None  # examine_store says what is wrong with the URL


def _in_redis(store: StoreSettings) -> bool:
    try:
        return store_kind(store.url) is StoreKind.REDIS
    except StoreError:
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _date_s(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Settings of the relay: the front door, the upstream and its issuer, routing, models and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ops.sections.base import OptionalLimit, Seconds, Section


class ServerSettings(Section):
    """The front door."""

    host: str = Field("127.0.0.1", description="Address to listen on. Loopback until you decide otherwise.")
    port: int = Field(8080, ge=0, le=65_535, description="TCP port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes. More than one shares state by the store.")
    public_url: str | None = Field(None, description="The URL that clients use, when a proxy stands in front.")
    tls_cert_file: Path | None = Field(None, description="PEM certificate chain; TLS is on when set.")
    tls_key_file: Path | None = Field(None, description="PEM private key of the certificate.")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses or networks whose X-Forwarded-For is believed, rightmost untrusted hop wins."
    )
    drain_delay_s: float = Field(
        1.0, ge=0, le=600, description="After SIGTERM: seconds of 503 on /readyz with the listener still open."
    )
    drain_s: Seconds = Field(300.0, description="After the delay: seconds that running streams get to end.")
    max_body_mib: int = Field(64, ge=1, le=1024, description="Largest request body, decoded, in MiB.")
    max_headers: int = Field(100, ge=10, le=1000, description="Most header fields in a request.")
    max_header_kib: int = Field(32, ge=4, le=256, description="Largest request head in KiB.")
    header_timeout_s: Seconds = Field(10.0, description="Seconds for a whole request head to arrive.")
    body_idle_timeout_s: Seconds = Field(20.0, description="Longest pause while a body arrives.")
    body_min_bytes_per_s: int = Field(
        1024, ge=0, description="Slowest average body rate after the first 20 seconds; 0 turns the check off."
    )
    keep_alive_s: Seconds = Field(75.0, description="Seconds that an idle client connection is kept.")
    write_stall_s: Seconds = Field(60.0, description="A client that takes no byte for this long is cut.")
    heartbeat_s: Seconds = Field(15.0, description="A heartbeat goes into a stream after this much silence.")
    max_inflight: int = Field(4096, ge=1, description="Requests in work per worker; beyond: 503 overloaded.")


class UpstreamSettings(Section):
    """The Codex backend."""

    base_url: str = Field("https://chatgpt.com/backend-api/codex", description="Model traffic goes here.")
    chatgpt_base_url: str = Field("https://chatgpt.com/backend-api", description="wham endpoints are under this.")
    connect_timeout_s: Seconds = Field(5.0, description="TCP and TLS connect.")
    first_event_timeout_s: Seconds = Field(
        120.0, description="From the start of an attempt to its first event; models may think before it."
    )
    idle_timeout_s: Seconds = Field(300.0, description="Longest silence inside a stream; as the Codex CLI.")
    total_timeout_s: Seconds = Field(3600.0, description="Longest life of one stream.")
    max_stream_mib: int = Field(512, ge=1, description="Most bytes of one stream, in MiB.")
    max_event_mib: int = Field(16, ge=1, le=256, description="Largest single event, in MiB.")
    http2: bool = Field(False, description="HTTP/2 to the upstream; costs more CPU per event (docs/performance.md).")
    ca_file: Path | None = Field(None, description="PEM bundle to trust besides the system's, for a TLS proxy.")
    proxy: str | None = Field(None, description="http:// proxy for upstream traffic (CONNECT); none by default.")
    originator: str = Field("codex_cli_rs", description="originator header for clients that are not Codex.")
    user_agent: str = Field(
        "codex_cli_rs/0.169.0 (Debian 12.0.0; x86_64) xterm (codex_cli_rs; 0.169.0)",
        description="user-agent header for clients that are not Codex.",
    )
    client_version: str = Field("0.169.0", description="version header and client_version of model discovery.")
    allowed_origins: tuple[str, ...] = Field(
        (), description="Further https origins that an account's routing override may name."
    )


class OAuthSettings(Section):
    """The issuer of the accounts' tokens."""

    issuer: str = Field("https://auth.openai.com", description="Token and device endpoints are under this origin.")
    client_id: str = Field("app_EMoamEEZ73f0CkXaXp7hrann", description="The Codex CLI's public client id.")
    refresh_ahead_s: Seconds = Field(300.0, description="Refresh this long before an access token expires.")
    refresh_timeout_s: Seconds = Field(30.0, description="Deadline of one exchange.")
    refresh_wait_s: Seconds = Field(5.0, description="A request waits this long for a refresh in flight.")
    refresh_spacing_s: float = Field(2.0, ge=0, le=60, description="Least time between two sibling exchanges.")


class RouterSettings(Section):
    """Which account takes a request, and when one rests."""

    policy: Literal["round_robin", "least_used", "fill_first"] = Field(
        "round_robin",
        description="Among those that are well: weighted rotation, most room in the windows, or one after the other.",
    )
    reserve_percent: float = Field(
        0.0, ge=0, le=90, description="An account with less than this left in a window rests until its reset; 0: none."
    )
    usage_poll_s: Seconds = Field(300.0, description="An account whose windows were not seen for this long is asked.")
    max_attempts: int = Field(3, ge=1, le=10, description="Attempts per request before the commit, the first included.")
    commit_hold_ms: int = Field(
        100, ge=0, le=5000, description="Handshake events are held this long, so that an early failure is replaceable."
    )
    affinity_ttl_s: Seconds = Field(3600.0, description="Seconds that a prompt-cache key stays with its account.")
    owner_ttl_s: Seconds = Field(7 * 86_400.0, description="Seconds that encrypted reasoning's owner is remembered.")
    breaker_failures: int = Field(5, ge=1, description="Account faults in a row that open its breaker.")
    breaker_open_s: Seconds = Field(30.0, description="First rest of an open breaker; doubles, with jitter.")
    breaker_open_max_s: Seconds = Field(900.0, description="Longest rest of an open breaker.")
    breaker_successes: int = Field(2, ge=1, description="Successful probes that close it.")
    cooldown_base_s: Seconds = Field(5.0, description="First rest after a 429 without a time; doubles, with jitter.")
    cooldown_max_s: Seconds = Field(7 * 86_400.0, description="Longest rest that any evidence can cause.")
    probe_interval_s: Seconds = Field(300.0, description="A far reset is checked this often in the background.")
    per_account_concurrency: int = Field(
        0, ge=0, description="Streams per account at once over all workers; 0: no limit."
    )
    retry_budget_ratio: float = Field(0.2, ge=0, le=2, description="Retries allowed as a share of requests.")
    retry_budget_min: int = Field(10, ge=0, description="Retries per 10 s that are always allowed.")
    wait_max_s: float = Field(5.0, ge=0, le=60, description="When all rest and one is back within this, wait.")


class ModelSettings(Section):
    """Names of models, and how strictly clients are held to the backend's dialect."""

    aliases: dict[str, str] = Field(default_factory=dict, description="Name that clients use = model sent up.")
    hidden: tuple[str, ...] = Field((), description="Models that are left out of /v1/models.")
    list_efforts: bool = Field(False, description="List <model>-<effort> names too; they are accepted always.")
    cache_s: Seconds = Field(300.0, description="Seconds that the discovered list is fresh.")
    adaptation: Literal["relaxed", "strict"] = Field(
        "relaxed", description="relaxed: fit a request to the backend and say so; strict: refuse with the field's name."
    )


class LimitSettings(Section):
    """Default limits per key and tenant; no limit unless one is set."""

    key_requests_per_minute: OptionalLimit = Field(None, description="Requests per minute and key.")
    key_concurrent_streams: OptionalLimit = Field(None, description="Requests in work at once per key.")
    tenant_requests_per_minute: OptionalLimit = Field(None, description="Requests per minute and tenant.")
    tenant_concurrent_streams: OptionalLimit = Field(None, description="Requests in work at once per tenant.")

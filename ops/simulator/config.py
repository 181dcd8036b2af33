"""What can be chosen when a simulator is built; everything else is scripted while it runs.

Nothing here is read from the environment: the command line and the tests pass values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ops.simulator.models import DEFAULT_MODELS

ISSUER = "https://auth.openai.com"
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"

UNSUPPORTED_PARAMETERS = frozenset(
    {
        "background",
        "conversation",
        "frequency_penalty",
        "generate",
        "logit_bias",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "metadata",
        "n",
        "presence_penalty",
        "previous_response_id",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "stop",
        "stream_options",
        "temperature",
        "top_p",
        "truncation",
        "user",
    }
)


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """Lifetimes in seconds; ``plan`` is a line of directives (see ``ops.simulator.script``) under every request."""

    seed: int = 1
    issuer: str = ISSUER
    client_id: str = CLIENT_ID
    access_token_lifetime_s: float = 864_000.0
    id_token_lifetime_s: float = 3_600.0
    refresh_token_lifetime_s: float = 90 * 86_400.0
    reuse_revokes_family: bool = False
    """A second use of a refresh token also kills the newest one of its family."""
    plan: str = ""
    models: tuple[dict[str, Any], ...] = DEFAULT_MODELS
    workspace_backend_origin: str = "NO_CONSTRAINT"
    account_routing_override: str = "NO_CONSTRAINT"
    require_account_header: bool = True
    unsupported_parameters: frozenset[str] = UNSUPPORTED_PARAMETERS
    rate_limit_event: bool = True
    """``codex.rate_limits`` follows ``response.created``."""
    tokens_per_window: int = 0
    """Tokens that fill the primary window; 0: use does not move the percentage."""
    max_body_bytes: int = 128 * 1024 * 1024
    keep_requests: int = 2_000
    """How many recorded requests are kept; the oldest go first."""
    device_interval_s: int = 5
    device_lifetime_s: float = 900.0
    control_from_anywhere: bool = False
    """The control API otherwise answers loopback peers only."""

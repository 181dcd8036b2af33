"""The catalogue that ``GET /backend-api/codex/models`` answers with.

Entries hold every member without which CLI 0.169.0 discards the whole catalogue. ``gpt-5.5`` is the one classic
model (tools in ``tools``, ``exec_command``); the others are "Responses Lite" models, as in the CLI's bundled list.
"""

from __future__ import annotations

from typing import Any

_EFFORTS = (
    ("low", "Fast responses with lighter reasoning"),
    ("medium", "Balances speed and reasoning depth"),
    ("high", "Greater reasoning depth for complex problems"),
    ("xhigh", "Extra high reasoning depth"),
)


def model_entry(
    slug: str, *, lite: bool = False, hidden: bool = False, priority: int = 10, context_window: int = 272_000
) -> dict[str, Any]:
    """One Model as the CLI parses it."""
    return {
        "slug": slug,
        "display_name": slug,
        "description": f"Simulated {slug}.",
        "default_reasoning_level": "medium",
        "supported_reasoning_levels": [{"effort": e, "description": d} for e, d in _EFFORTS],
        "shell_type": "unified_exec",
        "visibility": "hide" if hidden else "list",
        "supported_in_api": True,
        "priority": priority,
        "base_instructions": "You are Codex, a coding agent.",
        "supports_reasoning_summaries": True,
        "default_reasoning_summary": "auto",
        "support_verbosity": True,
        "default_verbosity": "low",
        "apply_patch_tool_type": "freeform",
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": not lite,
        "experimental_supported_tools": [],
        "context_window": context_window,
        "max_context_window": context_window,
        "effective_context_window_percent": 95,
        "input_modalities": ["text", "image"],
        "service_tiers": [{"id": "priority", "name": "Fast", "description": "Faster, uses more of the plan"}],
        "additional_speed_tiers": [],
        "use_responses_lite": lite,
        "available_in_plans": ["free", "go", "plus", "pro", "team", "business", "enterprise", "edu"],
        "minimal_client_version": "0.100.0",
    }


DEFAULT_MODELS: tuple[dict[str, Any], ...] = (
    model_entry("gpt-6-sol", lite=True, priority=1),
    model_entry("gpt-6.1-sol", lite=True, priority=2),
    model_entry("gpt-5.6-sol", lite=True, priority=3),
    model_entry("gpt-5.5", priority=4),
    model_entry("codex-auto-review", lite=True, hidden=True, priority=90),
)

"""What goes wrong below the tasks' API, in the client's words. Total over the errors of the sandbox and the store.

What is absent and what is another tenant's are one 404. A task that stands against the act is a 409 with the states; a
full queue is a 429 with Retry-After; a wish that is wrong is a 400 whose ``param`` names the part.
"""

from __future__ import annotations

from typing import Final

from gateway.admin.faults import Expected, absent, translated
from gateway.errors import GatewayError
from ops import redact
from sandbox.environments import BadEnvironment, NoSuchEnvironment
from sandbox.results import ResultsUnavailable, TooLarge
from sandbox.service import BadTask, NoSuchTask, NotYours, QueueFull, TaskError
from sandbox.states import WrongState

QUEUE_RETRY_S: Final = 30.0


def refusal(error: Exception) -> GatewayError | None:
    """What the client is told; None for what is no error of ours to explain."""
    if isinstance(error, Expected):
        return translated(error)
    if isinstance(error, NoSuchTask):
        return absent("task")
    if isinstance(error, NoSuchEnvironment):
        return absent("environment")
    if isinstance(error, BadEnvironment):
        return GatewayError.invalid(sentence(error), error.field)
    if isinstance(error, WrongState):
        return GatewayError("conflict", sentence(error))
    if isinstance(error, TaskError):
        return _task(error)
    if isinstance(error, TooLarge):
        return GatewayError("body_too_large", "That is larger than the limit here (sandbox.upload_mib).", close=True)
    if isinstance(error, ResultsUnavailable):
        return GatewayError.store_unavailable()
    return None


def _task(error: TaskError) -> GatewayError:
    if isinstance(error, QueueFull):
        return GatewayError("queue_full", sentence(error), retry_after_s=QUEUE_RETRY_S)
    if isinstance(error, NotYours):
        return GatewayError("forbidden", sentence(error))
    if isinstance(error, BadTask):
        return GatewayError.invalid(sentence(error), error.field)
    return GatewayError("conflict", sentence(error))


def sentence(error: Exception) -> str:
    """One redacted line that begins and ends as a sentence does."""
    text = redact.text(str(error))[:500]
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"

"""Does a one-time code fit, and has it been used? RFC 6238: SHA-1, 6 digits, steps of 30 seconds.

Pure functions. A code of the step before, this one or the next is taken, for clocks that are a little off. A step is
taken once: whoever asks stores the step that he got and brings it the next time, in one compare-and-put, so that a
code which was read over a shoulder is dead when its owner has used it.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

import pyotp

from store.records import Secret

ISSUER: Final = "codex-relay"
STEP_S: Final = 30
_CODE: Final = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """160 random bits in base32."""
    return pyotp.random_base32(32)


def uri(secret: str, name: str) -> Secret:
    """What an authenticator app takes, as text or QR code; it holds the secret."""
    return Secret(pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER))


def fitting_step(secret: str, code: str, now_s: float, last_step: int) -> int | None:
    """The step that ``code`` is of, when it is around ``now_s`` and newer than ``last_step``; else None.

    Blanks in the code are ignored. Every step is compared, whichever fits.
    """
    digits = "".join(code.split())
    if not _CODE.fullmatch(digits):
        return None
    now = int(now_s) // STEP_S
    generator = pyotp.TOTP(secret)
    found: int | None = None
    for step in (now - 1, now, now + 1):
        same = hmac.compare_digest(generator.generate_otp(step), digits)
        if same and step > last_step:
            found = step
    return found

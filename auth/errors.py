"""Why a caller or an account credential is refused.

::

    AuthError
      +- InvalidKey        one answer for unknown, malformed, expired, revoked and disabled keys
      +- NotConfigured     no client key exists yet: closed, never open
      +- LimitExceeded     the caller's own limit; carries when to come back
      +- CredentialError   an account's tokens
           +- NeedsReauth          the issuer refused the refresh token for good
           +- RefreshUnavailable   no usable access token now, and a refresh did not come through (may pass)
      +- ImportRefused     an auth.json that cannot be taken, by name of the reason
"""

from __future__ import annotations


class AuthError(Exception):
    """Base; str() is safe to print."""


class InvalidKey(AuthError):
    """The key is not accepted; the reason is for the log only."""


class NotConfigured(AuthError):
    """There is no client key at all."""


class LimitExceeded(AuthError):
    """A limit of the caller is reached. Nothing was sent.

    ``limit_name`` is ``requests`` or ``streams``; ``scope`` is ``key`` or ``tenant``.
    """

    def __init__(self, limit_name: str, scope: str, limit: int, retry_after_s: float) -> None:
        super().__init__(f"{scope} limit of {limit} {limit_name} reached")
        self.limit_name = limit_name
        self.scope = scope
        self.limit = limit
        self.retry_after_s = retry_after_s


class CredentialError(AuthError):
    """An account's credential cannot be used."""


class NeedsReauth(CredentialError):
    """Only a new login helps."""


class RefreshUnavailable(CredentialError):
    """The access token is dead and could not be renewed now; trying later may help."""


class ImportRefused(AuthError):
    """The file is not taken; ``code`` is a stable word, str() says why and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

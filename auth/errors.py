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
      +- AdminError        an act on administrators that is not done; nothing has changed
      |    +- BadName, NameTaken, NoSuchAdmin, StaleAdmin, LastOwner, TooManyAdmins, WrongKind, AlreadyBootstrapped
      |    +- PasswordRefused      the new password breaks a rule, which is named
      |    +- BadCode              the one-time code does not fit, or nothing waits for one
      +- SignInRefused     somebody is not let in to the console
           +- WrongCredentials     one answer for unknown, disabled, and wrong
           +- CodeRequired         the password is right, the one-time code is missing
           +- LoginThrottled       too many failures; carries when to come back
           +- LinkInvalid          unknown, used, expired or replaced
           +- OidcRefused          the provider's answer does not let this person in, by name of the reason
           +- OidcUnavailable      the provider cannot be asked now, or answers what it must not
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


class AdminError(AuthError):
    """An act on administrators that is not done; nothing has changed. ``code`` is a stable word."""

    code = "admin_error"


class BadName(AdminError):
    """The name is not one that an administrator can have."""

    code = "bad_name"


class NameTaken(AdminError):
    """Another administrator has the name."""

    code = "name_taken"


class NoSuchAdmin(AdminError):
    """There is no administrator of this id or name."""

    code = "not_found"


class StaleAdmin(AdminError):
    """The record has changed since it was read, or is changing all the time; read it again."""

    code = "conflict"


class LastOwner(AdminError):
    """The act would leave no enabled owner."""

    code = "last_owner"


class TooManyAdmins(AdminError):
    """The roster is full."""

    code = "too_many_admins"


class WrongKind(AdminError):
    """The person signs in by single sign-on; passwords, codes and links are the provider's matter."""

    code = "single_sign_on"


class AlreadyBootstrapped(AdminError):
    """There is an enabled owner already."""

    code = "already_bootstrapped"


class PasswordRefused(AdminError):
    """The new password breaks a rule; str() names the rule and never the password."""

    code = "password_refused"


class BadCode(AdminError):
    """The one-time code does not fit, or nothing waits for one."""

    code = "bad_code"


class SignInRefused(AuthError):
    """Somebody is not let in. ``code`` is a stable word; str() is safe to show to whoever tried."""

    code = "sign_in_refused"


class WrongCredentials(SignInRefused):
    """Unknown name, disabled person, wrong password, wrong code: not told apart."""

    code = "wrong_credentials"


class CodeRequired(SignInRefused):
    """The password is right; the one-time code is missing."""

    code = "code_required"


class LoginThrottled(SignInRefused):
    """Too many failures in a row for this name or address. Nothing was checked."""

    code = "login_throttled"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many failed sign-ins; try again in {max(1, round(retry_after_s))} s")
        self.retry_after_s = retry_after_s


class LinkInvalid(SignInRefused):
    """The one-time link is unknown, used, expired or replaced by a newer one."""

    code = "link_invalid"


class OidcRefused(SignInRefused):
    """The provider's answer does not let this person in. ``code`` names the reason; no token is ever quoted."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OidcUnavailable(SignInRefused):
    """The provider cannot be asked now, or answers what it must not; trying later, or an operator, may help."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

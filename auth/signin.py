"""How does a person prove who he is, without a provider, and how does he get what he proves it with?

With a password and, once he has set it up, a one-time code. The first password is set by a one-time link: an owner
makes one for a person (:meth:`SignIn.invite`), the operator of the machine makes one for the first owner
(:meth:`SignIn.bootstrap`). A link's token is ``<whom it is for>.<256 random bits>``; only its digest is stored, a
newer link replaces an older one, it ends after ``link_ttl_s``, and of two that redeem it at once one gets in.

Rules that hold:

* unknown, disabled, of single sign-on, wrong password, wrong code: one refusal, the same work (WrongCredentials);
* what is returned is the person as he was before his password was checked, so a session that is opened for him is
  over when his password, role or enabledness changed meanwhile;
* a new password ends all sessions: the epoch is raised before it is stored and after, so a process that dies between
  leaves either the old password without sessions, or the new one;
* passwords, codes and tokens stand in no error and no log.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from auth.admins import Admin, AdminDirectory, new_id, usable_name
from auth.errors import (
    AlreadyBootstrapped,
    BadCode,
    BadName,
    CodeRequired,
    LinkInvalid,
    LoginThrottled,
    NameTaken,
    PasswordRefused,
    WrongCredentials,
    WrongKind,
)
from auth.passwords import Passwords
from auth.proofs import Link, Proof, ProofShelf, Totp
from auth.shelf import Kept, Shelf
from auth.throttle import LoginThrottle
from auth.totp import fitting_step, new_secret, uri
from ops.clock import Clock
from store.base import DocumentStore
from store.records import Secret

LINK_KIND: Final = "admin_link"
LINK_PATH: Final = "/console/link"
"""The page that takes a one-time link; the token stands in the fragment, which no browser sends and no log sees."""

_Step = Callable[[Proof], Proof]
_FIRST: Final = "bootstrap"
_NOBODY: Final = "adm_nobody"
_TOKEN: Final = re.compile(rf"({_FIRST}|adm_[0-9a-f]{{16}})\.[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True, slots=True)
class TotpOffer:
    """A secret of one-time codes that is not active yet: as base32 text, and as what an app takes."""

    secret: Secret
    uri: Secret


class SignIn:
    """Passwords, one-time codes and one-time links. Every method may raise StoreError."""

    def __init__(
        self,
        documents: DocumentStore,
        admins: AdminDirectory,
        passwords: Passwords,
        throttle: LoginThrottle,
        clock: Clock,
        *,
        require_totp: bool,
        link_ttl_s: float,
    ) -> None:
        self._admins = admins
        self._passwords = passwords
        self._throttle = throttle
        self._clock = clock
        self._require_totp = require_totp
        self._link_ttl_s = link_ttl_s
        self._proofs = ProofShelf(documents)
        self._first = Shelf(documents, LINK_KIND, Link)

    async def password(self, name: str, password: Secret, code: str | None, *, address: str) -> Admin:
        """The person whose name, password and, if he has set it up, one-time code these are.

        Raises LoginThrottled (nothing was checked), WrongCredentials, CodeRequired (the password was right).
        """
        folded = name[:256].casefold()
        ticket = await self._throttle.admit(folded, address)
        admin, proof = await self._known(folded)
        try:
            right = await self._passwords.verify(proof.password, password)
        except LoginThrottled:  # too many wait: nobody's fault
            await self._throttle.undo(ticket)
            raise
        if admin is None or not right or not admin.enabled or admin.sso:
            raise _wrong()
        missing = self._require_totp if proof.totp is None else not code
        if missing:
            await self._throttle.undo(ticket)
            raise CodeRequired(
                "the one-time code is missing; enter the six digits that your app shows"
                if proof.totp is not None
                else "one-time codes are required and none is set up; ask an owner for a new link"
            )
        await self._note(admin.id, proof, password, admin.name, code)
        await self._throttle.succeeded(ticket)
        return admin

    async def set_password(self, admin: Admin, new: Secret) -> Admin:
        """Gives the person a password, and ends all his sessions; the person with his new epoch: open a session for
        this one, not for the old.

        Raises PasswordRefused, WrongKind for a person of single sign-on, NoSuchAdmin; nothing has changed then.
        """
        return await self._replace_password(admin, new, lambda proof: proof)

    async def change_password(self, admin: Admin, old: Secret, new: Secret) -> Admin:
        """As set_password, for a person who knows the old one. Also raises WrongCredentials, LoginThrottled."""
        before = await self._own_password(admin, old)

        def check(proof: Proof) -> Proof:
            if proof.password != before:
                raise WrongCredentials("the password was changed meanwhile; sign in with the new one")
            return proof

        return await self._replace_password(admin, new, check)

    async def begin_totp(self, admin: Admin) -> TotpOffer:
        """A new secret, shown this once; codes are as before until it is confirmed. Raises WrongKind."""
        _must_be_local(admin)
        secret = new_secret()
        await self._proofs.change(admin.id, lambda proof: replace(proof, offered=Totp(secret)))
        return TotpOffer(Secret(secret), uri(secret, admin.name))

    async def confirm_totp(self, admin: Admin, code: str) -> None:
        """Makes the offered secret the active one. Raises BadCode, LoginThrottled after too many of them."""
        ticket = await self._throttle.admit_own(admin.id)
        now_s = self._clock.now_s()

        def step(proof: Proof) -> Proof:
            offered = proof.offered
            fits = None if offered is None else fitting_step(offered.secret, code, now_s, offered.last_step)
            if offered is None or fits is None:
                raise BadCode("the code does not fit; begin again, or compare the clock of the device that shows it")
            return replace(proof, totp=replace(offered, last_step=fits), offered=None)

        await self._proofs.change(admin.id, step)
        await self._throttle.succeeded(ticket)

    async def drop_totp(self, admin: Admin, password: Secret) -> None:
        """No codes from now on. Raises WrongCredentials, LoginThrottled, and BadCode when codes are required."""
        if self._require_totp:
            raise BadCode("one-time codes are required here (setting admin.require_totp); set up a new one instead")
        await self._own_password(admin, password)
        await self._proofs.change(admin.id, lambda proof: replace(proof, totp=None, offered=None))

    async def invite(self, admin: Admin) -> Secret:
        """The token of a one-time link by which the person sets a password.

        What he proved himself with before is gone at once, and his sessions are over: this is the reset as well.
        Raises WrongKind for a person of single sign-on, NoSuchAdmin.
        """
        _must_be_local(admin)
        token, link = self._new_link(admin.id)
        await self._admins.end_sessions(admin.id)
        await self._proofs.change(admin.id, lambda proof: Proof(link=link, last_login_at_s=proof.last_login_at_s))
        await self._admins.end_sessions(admin.id)
        return token

    async def bootstrap_needed(self) -> bool:
        """Whether there is no enabled owner yet."""
        return not await self._admins.has_owner()

    async def bootstrap(self) -> Secret:
        """The token of a one-time link that makes the first owner; earlier ones are void. Raises
        AlreadyBootstrapped."""
        if await self._admins.has_owner():
            raise AlreadyBootstrapped("there is an owner already; codex-relay admins reset NAME lets one back in")
        token, link = self._new_link(_FIRST)
        await self._first.change(_FIRST, lambda _: (link, link.expires_at_s))
        return token

    async def redeem(self, token: Secret, name: str | None, password: Secret) -> Admin:
        """Sets the password by a one-time link and uses the link up; the person, to open a session for.

        ``name`` is for the first owner's link only. Raises LinkInvalid; BadName, NameTaken and PasswordRefused leave
        the link as it is.
        """
        match = _TOKEN.fullmatch(token.reveal())
        if match is None:
            raise _void()
        if match[1] == _FIRST:
            return await self._redeem_first(token, name or "", password)
        admin = await self._admins.get(match[1])
        proof = await self._proofs.get(match[1])
        if admin is None or proof is None or not admin.enabled or admin.sso or not self._fits(proof.link, token):
            raise _void()

        def check(stored: Proof) -> Proof:
            if not self._fits(stored.link, token):
                raise _void()
            return replace(stored, link=None, last_login_at_s=self._clock.now_s())

        return await self._replace_password(admin, password, check)

    async def _redeem_first(self, token: Secret, name: str, password: Secret) -> Admin:
        kept = await self._first.find(_FIRST)
        if kept is None or not self._fits(kept.value, token):
            raise _void()
        folded = usable_name(name)
        if await self._admins.by_name(folded) is not None:
            raise NameTaken(f"the name {folded!r} is taken; choose another")
        hashed = await self._passwords.hash(password, folded)
        if not await self._use_up(kept):
            raise _void()
        admin_id = new_id()
        now_s = self._clock.now_s()
        await self._proofs.change(admin_id, lambda _: Proof(password=hashed, last_login_at_s=now_s))
        try:
            return await self._admins.create_first(admin_id, folded)
        except (AlreadyBootstrapped, BadName, NameTaken) as error:
            await self._proofs.remove(admin_id)
            raise _void() from error

    async def _use_up(self, kept: Kept[Link]) -> bool:
        """Whether it was us: a removal says less about who was first than a compare-and-put does."""
        mine = await self._first.put(kept, Link("", 0.0), kept.expires_at_s)
        if mine:
            await self._first.remove(_FIRST)
        return mine

    async def _replace_password(self, admin: Admin, new: Secret, check: _Step) -> Admin:
        _must_be_local(admin)
        hashed = await self._passwords.hash(new, admin.name)
        await self._admins.end_sessions(admin.id)
        await self._proofs.change(admin.id, lambda proof: replace(check(proof), password=hashed))
        return await self._admins.end_sessions(admin.id)

    async def _own_password(self, admin: Admin, password: Secret) -> str | None:
        """The stored hash that the password fits."""
        ticket = await self._throttle.admit_own(admin.id)
        stored = (await self._proofs.get(admin.id) or Proof()).password
        if not await self._passwords.verify(stored, password):
            raise WrongCredentials("the password is wrong")
        await self._throttle.succeeded(ticket)
        return stored

    async def _known(self, name: str) -> tuple[Admin | None, Proof]:
        """The person and his proof; as many reads for a name that is not there."""
        admin = await self._admins.by_name(name)
        if admin is None:
            await self._proofs.get(_NOBODY)
        return admin, await self._proofs.get(_NOBODY if admin is None else admin.id) or Proof()

    async def _note(self, admin_id: str, checked: Proof, password: Secret, name: str, code: str | None) -> None:
        """Takes the code's step and notes the visit, on the proof that was checked or on none."""
        fresh = checked.password
        if fresh is not None and self._passwords.stale(fresh):
            fresh = await self._renewed(fresh, password, name)
        now_s = self._clock.now_s()

        def step(proof: Proof) -> Proof:
            if proof.password != checked.password:
                raise _wrong()
            totp = proof.totp
            if totp is not None:
                fits = fitting_step(totp.secret, code or "", now_s, totp.last_step)
                if fits is None:
                    raise _wrong()
                totp = replace(totp, last_step=fits)
            return replace(proof, password=fresh, totp=totp, last_login_at_s=now_s)

        await self._proofs.change(admin_id, step)

    async def _renewed(self, stored: str, password: Secret, name: str) -> str:
        try:
            return await self._passwords.hash(password, name)
        except PasswordRefused:  # a rule of today does not shut out a password of yesterday
            return stored

    def _new_link(self, whom: str) -> tuple[Secret, Link]:
        token = Secret(f"{whom}.{secrets.token_urlsafe(32)}")
        return token, Link(_digest(token), self._clock.now_s() + self._link_ttl_s)

    def _fits(self, link: Link | None, token: Secret) -> bool:
        return (
            link is not None
            and hmac.compare_digest(link.digest, _digest(token))
            and self._clock.now_s() < link.expires_at_s
        )


def link_url(base_url: str, token: Secret) -> Secret:
    """The whole link, for the person alone."""
    return Secret(f"{base_url.rstrip('/')}{LINK_PATH}#{token.reveal()}")


def _digest(token: Secret) -> str:
    return hashlib.sha256(token.reveal().encode()).hexdigest()


def _must_be_local(admin: Admin) -> None:
    if admin.sso:
        raise WrongKind(f"{admin.name} signs in by single sign-on; passwords and codes are set at the provider")


def _wrong() -> WrongCredentials:
    return WrongCredentials("name, password or code is wrong")


def _void() -> LinkInvalid:
    return LinkInvalid("the link is unknown, used, expired or replaced; ask for a new one")

"""Who may do what: the ladder of roles, and what none of them gets by accident."""

from __future__ import annotations

import pytest

from auth.roles import PERMISSIONS, Permission, Principal, Role


def test_an_owner_may_everything_and_only_an_owner_changes_administrators() -> None:
    assert PERMISSIONS[Role.OWNER] == frozenset(Permission)
    assert [role for role in Role if Permission.ADMINS_WRITE in PERMISSIONS[role]] == [Role.OWNER]


def test_an_auditor_changes_nothing() -> None:
    assert not [one for one in PERMISSIONS[Role.AUDITOR] if one.endswith(".write")]


@pytest.mark.parametrize("role", Role)
def test_everybody_may_see_to_himself(role: Role) -> None:
    assert Principal("a", "ann", role).may(Permission.SELF)


def test_a_member_sees_no_accounts_keys_or_audit() -> None:
    member = Principal("m", "max", Role.MEMBER)
    assert not any(member.may(one) for one in Permission if one.split(".")[0] not in {"self", "tasks"})


def test_the_audit_log_tells_people_from_keys() -> None:
    assert Principal("a1", "ann", Role.ADMIN, session_id="s").actor == "admin:ann"
    assert Principal("k1", "ci", Role.ADMIN).actor == "key:k1"

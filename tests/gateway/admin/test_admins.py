"""Who may sign in: made with a link, changed by owners, and never without one."""

from __future__ import annotations

from auth.roles import Role
from gateway.admin.routes import API
from tests.gateway.admin.good import NEW_PASSWORD
from tests.gateway.admin.rig import HOST, NOBODY, House


async def test_a_person_is_made_with_a_link_that_works_once_and_is_told_nowhere_else() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    made = await house.ask("POST", f"{API}/admins", owner, {"name": "Ada", "role": "member", "tenant_id": "ten-1"})
    assert made.status == 201
    admin, link = made.json["admin"], made.json["link"]
    assert (admin["name"], admin["role"], admin["tenant_id"], admin["enabled"]) == ("ada", "member", "ten-1", True)
    address, _, token = link.partition("#")
    assert address == f"http://{HOST}/console/link"
    body = {"token": token, "password": NEW_PASSWORD}
    used = await house.ask("POST", f"{API}/bootstrap", NOBODY, body)
    assert used.json["principal"]["id"] == admin["id"]
    assert (
        await house.ask("POST", f"{API}/bootstrap", NOBODY, {"token": token, "password": NEW_PASSWORD})
    ).status == 401
    listed = await house.ask("GET", f"{API}/admins", owner)
    assert token.encode() not in listed.body
    assert token not in repr(await house.store.search_audit())
    assert {one["name"] for one in listed.json["items"]} == {"root", "ada"}


async def test_a_link_leads_to_the_public_url() -> None:
    house = await House(public_url="https://relay.example.com").furnish()
    owner = await house.person("root", Role.OWNER)
    made = await house.ask("POST", f"{API}/admins", owner, {"name": "ada", "role": "auditor"})
    assert made.json["link"].startswith("https://relay.example.com/console/link#")


async def test_what_cannot_be_is_refused_by_name() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    root = owner.admin.id if owner.admin else ""
    for method, path, body, status, code in (
        ("POST", "admins", {"name": "root", "role": "admin"}, 409, "conflict"),
        ("POST", "admins", {"name": "..", "role": "admin"}, 400, "invalid_request"),
        ("POST", "admins", {"name": "ada", "role": "god"}, 400, "invalid_request"),
        ("POST", "admins", {"name": "ada", "role": "member", "tenant_id": "ten-9"}, 400, "invalid_request"),
        ("PATCH", f"admins/{root}", {"tenant_id": "ten-9"}, 400, "invalid_request"),
        ("PATCH", f"admins/{root}", {"name": "other"}, 400, "invalid_request"),
        ("PATCH", f"admins/{root}", {"role": "admin"}, 409, "last_owner"),
        ("PATCH", f"admins/{root}", {"enabled": False}, 409, "last_owner"),
        ("PATCH", f"admins/{root}", {"role": "owner", "version": 99}, 409, "conflict"),
        ("DELETE", f"admins/{root}", None, 409, "last_owner"),
    ):
        line = await house.ask(method, f"{API}/{path}", owner, body)
        assert (line.status, line.code) == (status, code), (method, body)
    assert [one.name for one in await house.people.all()] == ["root"]


async def test_a_reset_ends_sessions_and_makes_a_new_link() -> None:
    house = await House().furnish()
    owner, ada = await house.person("root", Role.OWNER), await house.person("ada", Role.ADMIN, password=True)
    assert ada.admin is not None
    line = await house.ask("POST", f"{API}/admins/{ada.admin.id}/reset", owner)
    assert "/console/link#" in line.json["link"]
    assert (await house.ask("GET", f"{API}/session", ada)).status == 401


async def test_no_role_but_the_owners_can_raise_anybody() -> None:
    """Whatever a lesser role sends, nobody ends up with more than he had."""
    house = await House().furnish()
    await house.person("root", Role.OWNER)
    for role in (Role.ADMIN, Role.AUDITOR, Role.MEMBER):
        who = await house.person(f"the-{role.value}", role, "ten-1" if role is Role.MEMBER else None)
        assert who.admin is not None
        for method, path, body in (
            ("PATCH", f"admins/{who.admin.id}", {"role": "owner"}),
            ("PATCH", f"admins/{who.admin.id}", {"tenant_id": None}),
            ("POST", "admins", {"name": "mine", "role": "owner"}),
            ("POST", f"admins/{who.admin.id}/reset", None),
        ):
            assert (await house.ask(method, f"{API}/{path}", who, body)).code == "forbidden"
        found = await house.people.get(who.admin.id)
        assert found is not None
        assert found.role is role

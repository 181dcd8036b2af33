"""The table itself: used once, behind its doors, and told apart from its neighbours."""

from __future__ import annotations

from gateway.admin.routes import ROUTES as ADMIN
from gateway.admin.routes import Table
from gateway.app import TASK_DOORS
from gateway.tasks.routes import DOORS, ROUTES


def test_names_and_places_are_used_once_and_lie_behind_the_doors() -> None:
    assert len({route.name for route in (*ROUTES, *ADMIN)}) == len(ROUTES) + len(ADMIN)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert set(DOORS) == set(TASK_DOORS)
    assert all(any(route.path == door or route.path.startswith(f"{door}/") for door in DOORS) for route in ROUTES)


def test_a_tail_takes_the_rest_and_an_empty_part_is_none() -> None:
    table = Table(ROUTES)
    found = table.find("/v1/tasks/t/attempts/1/files/artifacts/a/b.txt")
    assert found is not None
    assert found[1] == {"id": "t", "number": "1", "name": "artifacts/a/b.txt"}
    listed = table.find("/backend-api/wham/tasks/list")
    assert listed is not None
    assert listed[0]["GET"].name == "cloud.list"
    for path in ("/v1/tasks/", "/v1/tasks//log", "/v1/tasks/t/attempts//files/a", "/v1/tasks/t/attempts/1/files/",
                 "/v1/tasks/t/log/", "/share/", "/share//diff"):  # fmt: skip
        assert table.find(path) is None, path

"""The environment of commands, and secrets that do not show."""

from __future__ import annotations

from sandbox.runner.order import Places, Secrets, Spec, command_environment


def test_commands_get_a_small_environment_and_the_proxy_only_when_there_is_one(places: Places) -> None:
    plain = command_environment(places, Spec("agent", environment={"A": "b", "HTTP_PROXY": "mine"}), None)
    assert (plain["A"], plain["HTTP_PROXY"], plain["HOME"]) == ("b", "mine", str(places.home))
    assert "https_proxy" not in plain
    proxied = command_environment(places, Spec("agent", environment={"HTTP_PROXY": "mine"}), 8090)
    assert proxied["HTTP_PROXY"] == proxied["https_proxy"] == "http://127.0.0.1:8090"
    assert "127.0.0.1" in proxied["NO_PROXY"]


def test_secrets_do_not_show_in_their_representation() -> None:
    secrets = Secrets("git-t0ken", {"A": "value-of-a"}, "the-key", "the-egress")
    assert all(value not in repr(secrets) for value in secrets.values())
    assert set(secrets.values()) == {"git-t0ken", "value-of-a", "the-key", "the-egress"}

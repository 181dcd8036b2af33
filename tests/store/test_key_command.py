"""A program hands out the key: no shell, no environment of ours, bounded, and none of its words in a message."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest

from store.errors import StoreUnusable, WrongKey
from store.key_command import CommandKeys
from store.vault import key_id

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()


def program(text: str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text, *more)


def test_what_it_prints_are_the_keys() -> None:
    keys = CommandKeys(program(f"print('{TEXT}'); print('{base64.b64encode(KEY[::-1]).decode()}')"), 10.0)
    assert keys.present()
    assert keys.load().ids == (key_id(KEY), key_id(KEY[::-1]))
    assert keys.mark() is None
    with pytest.raises(StoreUnusable, match="cannot make a key"):
        keys.create()


def test_its_words_are_words_and_no_shell_sees_them() -> None:
    text = "import sys; print(sys.argv[1] == '$(id); `id` | x' and sys.argv[2] or 'no')"
    assert CommandKeys(program(text, "$(id); `id` | x", TEXT), 10.0).load().current_id == key_id(KEY)


def test_it_gets_no_variable_that_was_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_RELAY_VAULT__KEY", "secret")
    monkeypatch.setenv("SOCKET_OF_MINE", "yes")
    text = (
        "import os; ok = 'SOCKET_OF_MINE' in os.environ and not any('RELAY' in n for n in os.environ); "
        f"print('{TEXT}' if ok else 'no')"
    )
    with pytest.raises(WrongKey):
        CommandKeys(program(text), 10.0).load()
    assert CommandKeys(program(text), 10.0, ["SOCKET_OF_MINE"]).load().current_id == key_id(KEY)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("print('hunter2')", "is not base64"),
        ("import sys; print('hunter2', file=sys.stderr); sys.exit(3)", "exit code 3"),
        ("pass", "holds no key"),
        ("print('A' * 5000)", "more than 4096 bytes"),
        ("import time; print('hunter2', flush=True); time.sleep(60)", "did not answer within 1 s"),
    ],
)
def test_whatever_else_it_does_is_one_line_without_its_output(text: str, cause: str) -> None:
    with pytest.raises(WrongKey, match=cause) as caught:
        CommandKeys(program(text), 1.0).load()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_not_there_and_no_program_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match="cannot be run"):
        CommandKeys([str(tmp_path / "nothing")], 1.0).load()
    with pytest.raises(StoreUnusable, match=r"vault\.command is empty"):
        CommandKeys([], 1.0)


def test_what_it_leaves_running_is_ended(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '300'], stdout=subprocess.DEVNULL); "
        f"open(sys.argv[1], 'w').write(str(p.pid)); print('{TEXT}')"
    )
    CommandKeys(program(text, str(tmp_path / "pid")), 10.0).load()
    pid = int((tmp_path / "pid").read_text())
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or ") Z " in state.read_text():
            return
    raise AssertionError("it runs on")

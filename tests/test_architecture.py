"""The habits of the house, held by machine: sizes, names, mirrors, lock files, and documentation that tells the truth.

Layers are import-linter's matter (``make check``); style is ruff's.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from gateway.errors import CODES, stream_failure
from ops import config_docs
from ops.cli.root import root as commands
from ops.version import VERSION
from upstream.errors import FaultKind, UpstreamError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "router", "upstream", "auth", "store", "sandbox", "ops")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "mixins", "mixin", "shared"}
DECLARATIONS = {"__init__", "types", "errors", "base", "hooks", "engine", "task_records"}
"""Files that only declare: data, words, exceptions, Protocols."""

COVERED_ELSEWHERE: dict[str, tuple[str, str]] = {
    "auth/proofs.py": ("tests/auth/test_signin.py", "data; every field is used and refused there"),
    "gateway/error_codes.py": ("tests/test_architecture.py", "held against docs/errors.md"),
    "gateway/admin/acts.py": ("tests/gateway/admin/test_accounts.py", "acts are read back from the audit log"),
    "gateway/admin/answers.py": ("tests/gateway/admin/test_openapi.py", "data; every answer is held against it"),
    "gateway/admin/bodies.py": ("tests/gateway/admin/test_reading.py", "data; what it refuses is a table there"),
    "gateway/admin/forecast.py": ("tests/gateway/admin/test_overview.py", "asked for over HTTP"),
    "gateway/admin/probing.py": ("tests/gateway/admin/test_accounts.py", "asked for over HTTP"),
    "gateway/admin/views.py": ("tests/ops/cli/test_accounts.py", "views are checked as they are printed"),
    "gateway/tasks/answers.py": ("tests/gateway/tasks/test_openapi.py", "data; every answer is held against it"),
    "gateway/tasks/bodies.py": ("tests/gateway/tasks/test_tasks.py", "data; what it refuses is a table there"),
    "gateway/tasks/types.py": ("tests/gateway/tasks/test_app.py", "who acts for whom is a matrix there"),
    "gateway/tasks/views.py": ("tests/gateway/tasks/test_tasks.py", "views are checked as they are sent"),
    "gateway/tasks/cloud_views.py": ("tests/gateway/tasks/test_cloud.py", "views are checked as they are sent"),
    "ops/house_tasks.py": ("tests/flow/test_tasks_api.py", "what it builds is driven through the front door"),
    "ops/house_admin.py": ("tests/flow/test_admin_api.py", "what it builds is driven through the front door"),
    "ops/cli/__main__.py": ("tests/ops/cli/test_root.py", "one call"),
    "ops/cli/opening.py": ("tests/ops/cli/test_accounts.py", "every command goes through it"),
    "ops/cli/options.py": ("tests/ops/cli/test_root.py", "options are checked on every command"),
    "ops/cli/output.py": ("tests/ops/cli/test_accounts.py", "what people see is checked as they see it"),
    "ops/cli/outside.py": ("tests/ops/cli/test_account_acts.py", "its parts are used against the simulator"),
    "ops/cli/task_apply.py": ("tests/ops/cli/test_tasks.py", "diffs are applied to a repository there"),
    "ops/cli/task_log.py": ("tests/ops/cli/test_tasks.py", "logs that break off are followed there"),
    "ops/cli/session.py": ("tests/ops/cli/test_audit.py", "acts and errors are checked by command"),
    "ops/cli/account_views.py": ("tests/ops/cli/test_accounts.py", "views are checked as they are printed"),
    "ops/cli/run.py": ("tests/ops/cli/test_root.py", "three calls; the servers have tests of their own"),
    "ops/findings.py": ("tests/ops/test_doctor.py", "the words of the doctor's answers"),
    "ops/house_front.py": ("tests/flow/test_front_door.py", "what it builds is driven through the front door"),
    "ops/house_logins.py": ("tests/ops/cli/test_login.py", "what it builds brings accounts in"),
    "ops/house_fleet.py": ("tests/ops/test_fleet.py", "what it builds holds four processes together"),
    "ops/house_late.py": ("tests/flow/test_admin_api.py", "every request of the admin API goes through it"),
    "ops/cli/worker.py": ("tests/real/test_task_real.py", "one call; the worker is run over a real engine"),
    "ops/house_sandbox.py": ("tests/real/test_task_real.py", "what it builds does whole tasks on a real engine"),
    "ops/house_relay.py": ("tests/flow/test_quota_faults.py", "what it builds relays in every flow"),
    "ops/house_runs.py": ("tests/flow/test_x_codex.py", "what it builds answers through the front door"),
    "ops/house_store.py": ("tests/ops/test_workers_serving.py", "workers that count together stand on it"),
    "ops/house_watch.py": ("tests/ops/test_watching.py", "an alert travels from a refusal to a receiver"),
    "ops/main.py": ("tests/ops/test_serve_start.py", "the start of a process is proven by processes"),
    "ops/server.py": ("tests/ops/test_shutdown.py", "the end of a process is proven by processes"),
    "ops/sections/admin.py": ("tests/ops/test_settings.py", "fields; every one is loaded and refused there"),
    "ops/sections/keep.py": ("tests/ops/test_settings.py", "fields; every one is loaded and refused there"),
    "ops/sections/relay.py": ("tests/ops/test_settings.py", "fields; every one is loaded and refused there"),
    "ops/sections/sandbox.py": ("tests/ops/test_settings.py", "fields; every one is loaded and refused there"),
    "ops/sections/watch.py": ("tests/ops/test_settings.py", "fields; every one is loaded and refused there"),
    "ops/simulator/app.py": ("tests/simulator/test_control.py", "every test of the simulator goes through it"),
    "ops/simulator/models.py": ("tests/simulator/test_responses.py", "data; what clients read of it is checked there"),
    "sandbox/runner/__main__.py": ("tests/real/test_runner.py", "the way in; each run there begins with it"),
    "sandbox/archives_rules.py": ("tests/sandbox/test_archives.py", "its rules are held against whole archives"),
    "sandbox/archives_tar.py": ("tests/sandbox/test_archives.py", "tars, honest and hostile"),
    "sandbox/archives_zip.py": ("tests/sandbox/test_archives.py", "zips, honest and hostile"),
    "store/backup_file.py": ("tests/store/test_backup.py", "files are written, read and spoilt there"),
    "store/backup_note.py": ("tests/store/test_backup.py", "written and read there"),
    "store/key_wrapped.py": ("tests/store/test_key_transit.py", "every rule of the file, over one of its services"),
    "store/sealed.py": ("tests/store/test_sqlite_sealed.py", "a Protocol; held against SQLite there"),
    "sandbox/run_lease.py": ("tests/sandbox/test_worker.py", "leases are kept, lost and taken over there"),
    "sandbox/run_log.py": ("tests/sandbox/test_run.py", "what a run says is read back from its log"),
    "sandbox/run_plan.py": ("tests/sandbox/test_run.py", "every attempt goes by its plan"),
    "sandbox/run_step.py": ("tests/sandbox/test_run.py", "every phase of an attempt is one step"),
    "sandbox/run_trees.py": ("tests/sandbox/test_run_setup.py", "what set-up leaves is carried over"),
    "sandbox/run_watch.py": ("tests/sandbox/test_run.py", "limits end attempts there"),
    "store/backup_copy.py": ("tests/store/test_copying.py", "a store in Redis goes there and back"),
    "store/memory.py": ("tests/contract/test_store_contract.py", "every contract is held against both backends"),
    "store/memory_tasks.py": ("tests/contract/test_store_tasks.py", "tasks, by contract"),
    "store/sqlite_tasks.py": ("tests/contract/test_store_tasks.py", "tasks, by contract"),
    "store/redis_accounts.py": ("tests/contract/test_store_contract.py", "accounts and credentials, by contract"),
    "store/redis_documents.py": ("tests/contract/test_store_documents.py", "documents, by contract"),
    "store/redis_keys.py": ("tests/contract/test_store_contract.py", "tenants and keys, by contract"),
    "store/redis_refresh.py": ("tests/contract/test_store_refresh.py", "claims and intents, by contract"),
    "store/redis_shared.py": ("tests/contract/test_store_shared.py", "health, windows and placements, by contract"),
    "store/redis_tasks.py": ("tests/contract/test_store_tasks.py", "tasks, by contract"),
    "store/refresh_rules.py": ("tests/contract/test_store_refresh.py", "the rules, held against both backends"),
    "store/sqlite_accounts.py": ("tests/contract/test_store_contract.py", "accounts and credentials, by contract"),
    "store/sqlite_documents.py": ("tests/contract/test_store_documents.py", "documents, by contract"),
    "store/sqlite_hot.py": ("tests/contract/test_store_shared.py", "health, windows and placements, by contract"),
    "store/sqlite_keys.py": ("tests/contract/test_store_contract.py", "tenants and keys, by contract"),
    "store/sqlite_refresh.py": ("tests/contract/test_store_refresh.py", "claims and intents, by contract"),
    "ops/seat.py": ("tests/ops/test_house.py", "shares of a limit"),
    "ops/version.py": ("tests/test_architecture.py", "compared with pyproject.toml"),
}
"""A source file without a test file of its name -> where it is tested instead, and why there."""


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


SOURCES = list(sources())
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_a_file_answers_one_question_and_fits_on_a_few_screens() -> None:
    long = {name_of(path): len(path.read_text().splitlines()) for path in [*SOURCES, *TESTS]}
    assert {name: lines for name, lines in long.items() if lines > MAX_FILE_LINES} == {}
    assert [name_of(path) for path in [*SOURCES, *TESTS] if path.stem in BANNED_NAMES] == []


def test_a_source_file_says_what_it_is_for_and_its_functions_fit_on_a_screen() -> None:
    silent, long = [], []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            silent.append(name_of(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{name_of(path)}: {node.name} has {lines} lines")
    assert silent == []
    assert long == []


def test_a_source_file_has_its_test_file() -> None:
    lonely = [name_of(path) for path in SOURCES if path.stem not in DECLARATIONS and not _has_test(path)]
    assert lonely == []


def _has_test(path: Path) -> bool:
    name = name_of(path)
    if name in COVERED_ELSEWHERE:
        return (ROOT / COVERED_ELSEWHERE[name][0]).is_file()
    inside = path.relative_to(ROOT)
    folders = [ROOT / "tests" / inside.parent, ROOT / "tests" / inside.parts[0], ROOT / "tests" / path.parent.name]
    return any(True for folder in folders for _ in folder.glob(f"test_{path.stem}*.py"))


def test_the_list_of_exceptions_names_files_that_exist() -> None:
    assert [name for name in COVERED_ELSEWHERE if not (ROOT / name).is_file()] == []


def test_nothing_is_left_for_later() -> None:
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK", "Not" + "ImplementedError"))
    left = [name_of(path) for path in [*SOURCES, *TESTS, *PAGES] if re.search(rf"\b({words})\b", path.read_text())]
    assert left == []


def test_nothing_evaluates_text_runs_a_shell_or_trusts_any_certificate() -> None:
    calls = {"eval", "exec", "os.system", "os.popen", "__import__", "compile"}
    names = {"CERT_NONE", "_create_unverified_context", "pickle", "marshal"}
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                shell = any(word.arg == "shell" for word in node.keywords)
                if shell or ast.unparse(node.func) in calls:
                    found.append(f"{name_of(path)}:{node.lineno}")
            word = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if word in names:
                found.append(f"{name_of(path)}: {word}")
    assert found == []


def test_a_switched_off_check_says_which_and_why() -> None:
    found = []
    for path in SOURCES:
        for line in path.read_text().splitlines():
            if "# noqa" in line and not re.search(r"# noqa: [A-Z]+\d+(, ?[A-Z]+\d+)* - \w", line):
                found.append(f"{name_of(path)}: {line.strip()}")
            if "# type: ignore" in line and not re.search(r"# type: ignore\[[a-z, -]+\]", line):
                found.append(f"{name_of(path)}: {line.strip()}")
    assert found == []


# lock files


def pinned(name: str) -> dict[str, Version]:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found: dict[str, Version] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^-]+)?((?:\s+--hash=sha256:[0-9a-f]{64})+)", line)
        assert match is not None, f"{name}: not a pinned line with hashes: {line[:80]}"
        found[canonicalize_name(match[1])] = Version(match[2])
    return found


def declared(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def test_the_lock_files_pin_everything_by_hash_and_name_no_index() -> None:
    run, dev = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert {name: dev.get(name) for name in run} == run
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "index" not in text.replace("--hash", "")
        assert "find-links" not in text


@pytest.mark.parametrize(("lock", "extras"), [("requirements.lock", ()), ("requirements-dev.lock", ("dev",))])
def test_the_lock_files_are_in_step_with_what_is_declared(lock: str, extras: tuple[str, ...]) -> None:
    locked = pinned(lock)
    for requirement in declared(*extras):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is declared but not in {lock}; run make lock"
        assert version in requirement.specifier, f"{requirement} is declared, {version} is in {lock}; run make lock"


def test_every_package_is_listed_and_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    there = {name_of(path.parent).replace("/", ".") for path in SOURCES if path.name == "__init__.py"}
    assert there - listed == set()
    assert project["project"]["version"] == VERSION
    assert VERSION in (ROOT / "CHANGELOG.md").read_text()


# documentation


@pytest.mark.parametrize("name", config_docs.pages())
def test_generated_pages_are_what_would_be_generated_now(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == config_docs.pages()[name], "run make docs"


def test_every_error_code_is_explained_with_its_status_and_type() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = {
        (code, int(status), kind)
        for code, status, kind in re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \|", page, re.M)
    }
    assert rows == {(code, status, kind) for code, (status, kind) in CODES.items()}
    ends = {stream_failure(UpstreamError(kind))[0] for kind in FaultKind}
    assert ends <= set(re.findall(r"^\| `(\w+)` \| [A-Z]", page, re.MULTILINE))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), target


def shell_lines(path: Path) -> Iterator[list[str]]:
    for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line.removeprefix("$ "), comments=True)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_command_in_a_page_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in shell_lines(path):
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        for index, word in enumerate(words):
            if word.rpartition("/")[2] == "codex-relay" and "image" not in words[:index] and "docker" not in words:
                _resolve(words[index + 1 :])


def _resolve(words: list[str]) -> None:
    """Walks the tree of commands and checks that each long option is one of the command that it stands behind."""
    command: click.Command = commands
    rest = words[: words.index("--")] if "--" in words else list(words)  # what follows is another program's
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.commands.get(rest[0])
        assert found is not None, words
        command = found
        rest = rest[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in options | {"--help", "--version"}, words

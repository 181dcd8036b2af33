"""docs/faults.md and the tests name the same faults: no promise without a proof, no proof of something unknown."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"B\d+[a-z]?")


def rows(text: str) -> set[str]:
    """The fault numbers in the first column of every table; ``B61-B65`` stands for all of them."""
    found: set[str] = set()
    for line in text.splitlines():
        first = line.split("|")[1] if line.startswith("|") else ""
        for part in first.split(","):
            low, _, high = part.strip().partition("-")
            if NUMBER.fullmatch(low) and high:
                found |= {f"B{n}" for n in range(int(low[1:]), int(high[1:]) + 1)}
            elif NUMBER.fullmatch(low):
                found.add(low)
    return found


def marked(source: str) -> Iterator[str]:
    """The numbers of every ``mark.fault("...")`` in a test's source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.fault"):
            for argument in node.args:
                assert isinstance(argument, ast.Constant), "a fault's number is written out"
                yield str(argument.value)


def proofs() -> dict[str, set[str]]:
    """Which test files carry which fault number."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for number in marked(path.read_text()):
            found[number].add(str(path.relative_to(ROOT)))
    return found


def tables() -> tuple[set[str], set[str]]:
    """(promised, excepted) fault numbers of docs/faults.md."""
    promised, _, excepted = (ROOT / "docs" / "faults.md").read_text().partition("## Exceptions")
    return rows(promised), rows(excepted)


def test_every_promised_fault_has_a_test() -> None:
    promised, _ = tables()
    assert len(promised) > 40
    assert sorted(promised - set(proofs())) == []


def test_no_test_names_a_fault_that_is_not_in_the_table() -> None:
    promised, excepted = tables()
    unknown = {n: files for n, files in proofs().items() if n.startswith("B") and n not in promised | excepted}
    assert unknown == {}


def test_no_fault_is_both_promised_and_excepted() -> None:
    promised, excepted = tables()
    assert promised & excepted == set()


def test_the_table_is_read_as_it_is_written() -> None:
    """Ranges, lists and letters count; other columns and other tables do not."""
    text = "| # | why |\n|---|---|\n| B2, B4-B6 | B9 |\n| B18b | x |\n| C1 | y |\nB7\n"
    assert rows(text) == {"B2", "B4", "B5", "B6", "B18b"}
    assert set(marked('@pytest.mark.fault("B1")\ndef test_x(): ...\nM = [pytest.mark.fault("B2", "B3")]')) == {
        "B1",
        "B2",
        "B3",
    }

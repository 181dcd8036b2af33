"""The results as JSON for machines and as Markdown for docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.scenarios import Result, Spread


def as_json(facts: Mapping[str, str], results: Sequence[Result]) -> str:
    return json.dumps({"machine": dict(facts), "results": [asdict(result) for result in results]}, indent=1)


def as_markdown(facts: Mapping[str, str], results: Sequence[Result], mode: str) -> str:
    """Machine, one row for each promise, then the figures."""
    lines = [f"Machine: {', '.join(f'{name} {value}' for name, value in facts.items())}. Mode: {mode}.", ""]
    lines += ["| scenario | promise | measured | |", "|---|---|---|---|"]
    for result in results:
        for verdict in result.verdicts:
            holds = "holds" if verdict.holds else "**missed**"
            lines.append(f"| {result.title} | {verdict.promise} | {verdict.measured} | {holds} |")
    lines += ["", "| scenario | figure | unit | median | least – most |", "|---|---|---|---|---|"]
    for result in results:
        for name, (unit, spread) in result.figures.items():
            lines.append(f"| {result.key} | {name} | {unit} | {_number(spread.median)} | {_range(spread)} |")
    notes = [f"- {result.key}: {note}" for result in results for note in result.notes]
    return "\n".join([*lines, "", *notes]) + "\n"


def write(folder: Path, facts: Mapping[str, str], results: Sequence[Result], mode: str) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    machine, human = folder / f"{mode}.json", folder / f"{mode}.md"
    machine.write_text(as_json(facts, results))
    human.write_text(as_markdown(facts, results, mode))
    return machine, human


def _range(spread: Spread) -> str:
    return f"{_number(spread.least)} – {_number(spread.most)}"


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"

"""The page docs/experiments.md and its pictures, from the stored runs."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.experiments import PARTS
from benchmarks.experiments.common import Claim

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "experiments.md"
PICTURES = ROOT / "docs" / "_static" / "experiments"

HEAD = """\
# The paper's experiments

Section 5 of Griffin, Jahani, Takáč, Yektamaram and Zhou, run again on real data. Nothing was adjusted to make a method
win. The paper gives no numbers beside its pictures, so a claim is judged as it is worded, by a rule that stands in the
code (`claims` in `benchmarks/experiments/report_*.py`). "Paper" is `Options.paper()`, the method as printed; "default"
is `Options()`, this library's. This page is written by `python -m nox -s experiments -- report` from the runs in
`benchmarks/results/experiments`; budgets, seeds, machine and versions stand in each section.
"""


def write(page: Path = PAGE, pictures: Path = PICTURES) -> str:
    """Pack the runs, draw the pictures and write the page; return what was written."""
    pictures.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if module(part).STORE.records():
            module(part).STORE.pack()
    with packed_alone():
        for part in PARTS:
            if module(part).STORE.records():
                module(f"report_{part}").pictures(pictures)
        page.write_text(text(), encoding="utf-8")
    return f"written: {page.relative_to(ROOT) if page.is_relative_to(ROOT) else page}"


@contextlib.contextmanager
def packed_alone() -> Iterator[None]:
    """Read the packed runs and no others: what is finished meanwhile is in the next report."""
    stores = [module(part).STORE for part in PARTS]
    loose = [store.runs for store in stores]
    for store in stores:
        store.runs = store.folder / "packed"  # there is no such folder
    try:
        yield
    finally:
        for store, runs in zip(stores, loose, strict=True):
            store.runs = runs


def text() -> str:
    """Return the page."""
    reports = [module(f"report_{part}") for part in PARTS if module(part).STORE.records()]
    claims = [claim for report in reports for claim in report.claims()]
    return "\n".join([HEAD, table(claims), *(f"\n{report.section()}" for report in reports)]).rstrip() + "\n"


def table(claims: Iterable[Claim]) -> str:
    """Return the table of claims."""
    return rows(("where", "the paper claims", "measured", "holds?"), claims)


def rows(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *(list(row) for row in body)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def save(figure: Any, folder: Path, name: str) -> None:
    """Save a matplotlib figure as NAME.png and NAME.svg, the same bytes for the same data."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(folder / f"{name}.png", dpi=144)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def module(name: str) -> Any:
    """Return a module of this package."""
    return importlib.import_module(f"benchmarks.experiments.{name}")

"""Markdown tables of the measured rows, and docs/performance.md, whose marked blocks they are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.micro import store

Row = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
PICTURES = PAGE.parent / "_static"

#: Targets: passes of a step at d = 1e6; its share of torch.optim.LBFGS's; how many times faster the subproblem is
#: than with QR; error of float32 products; milliseconds of a step at d = 10.
STEP, SHARE, TIMES, ERROR, SMALL = 2.6, 0.9, 5.0, 1e-7, 0.25
#: Ways to run whose usual step projects once and combines once.
TWO_PASSES = ("samples", "new batches", "paper")
PARTS = {
    "inner_products": "products",
    "combine": "combine",
    "set_row": "two rows",
    "scalars": "g'g, g'p",
    "linear": "sums of gradients",
    "rest": "rest",
}


def described(heading: dict[str, Any]) -> str:
    """Return machine and versions in a line."""
    if not heading:
        return "Not measured."
    made_with = f"{heading['blas']}; {', '.join(heading['versions'])}; seed {heading['seed']}"
    return f"{heading['machine']}, one thread, {made_with}."


def table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    rows = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *rows])


def number(value: float | None) -> str:
    """Three digits; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return "-"
    if value != 0.0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain(rows: list[Row]) -> str:
    """Return a table of all cases and numbers as they are."""
    if not rows:
        return "Not measured."
    names = list(dict.fromkeys(name for row in rows for name in row["found"]))
    lines = [
        [*(f"{v:,}" if isinstance(v, int) else v for v in row["case"].values())]
        + [number(row["found"].get(name)) for name in names]
        for row in rows
    ]
    return table([*rows[0]["case"], *(HEADS.get(name, name) for name in names)], lines)


HEADS = {
    "core_ms": "core, ms",
    "optimizer_ms": "optimizer, ms",
    "pass_ms": "one pass, ms",
    "gb_per_s": "GB/s",
    "step_ms": "step, ms",
}


def find(rows: list[Row], **case: Any) -> dict[str, float]:
    """Return the numbers of one case; none where it was not measured."""
    return next((row["found"] for row in _of(rows, **case)), {})


def _setups(rows: list[Row], *names: str) -> list[dict[str, Any]]:
    """The different values of these names, in order."""
    found = [{name: row["case"][name] for name in names} for row in rows]
    return [c for i, c in enumerate(found) if c not in found[:i]]


def against_m(rows: list[Row]) -> str:
    """Return passes of a step at d = 1e6 for every m."""
    chosen = [row for row in rows if row["case"]["d"] == 1_000_000]
    lines = []
    for setup in _setups(chosen, "library", "dtype", "m"):
        usual = [number(find(chosen, mode=mode, **setup).get("passes")) for mode in TWO_PASSES]
        whole = find(chosen, mode="whole set", **setup)
        share = f"{whole['usual']:.0f} of {whole['steps']:.0f}" if whole else "-"
        lines.append([str(v) for v in setup.values()] + [*usual, number(whole.get("passes, any step")), share])
    heads = ["library", "dtype", "m", *TWO_PASSES, "whole set, any step", "usual steps of the whole set"]
    return table(heads, lines)


def against_d(rows: list[Row]) -> str:
    """Return milliseconds and passes of a usual step at m = 16 for every d."""
    chosen = [row for row in rows if row["case"]["m"] == 16]
    lines = []
    for setup in _setups(chosen, "library", "dtype", "d"):
        found = [find(chosen, mode=mode, **setup) for mode in TWO_PASSES]
        cells = [f"{number(f.get('step_ms'))} ({number(f.get('passes'))})" for f in found]
        lines.append([setup["library"], setup["dtype"], f"{setup['d']:,}", *cells])
    return table(["library", "dtype", "d", *(f"{mode}, ms (passes)" for mode in TWO_PASSES)], lines)


def parts(rows: list[Row]) -> str:
    """Return where the time of a usual step goes at d = 1e6, m = 16."""
    chosen = [row for row in rows if (row["case"]["d"], row["case"]["m"]) == (1_000_000, 16)]
    lines = []
    for setup in _setups(chosen, "mode", "library", "dtype"):
        found = find(chosen, **setup)
        if "passes" in found:
            lines.append([*setup.values(), number(found["passes"]), *(number(found[name]) for name in PARTS)])
    return table(["mode", "library", "dtype", "step", *PARTS.values()], lines)


TABLES: dict[str, Callable[[list[Row]], str]] = {
    "kernels": plain,
    "subproblem": plain,
    "steps": plain,
    "torch_lbfgs": plain,
    "torch_adapter": plain,
    "accuracy": plain,
    "overhead": plain,
    "memory": plain,
    "memory_mapped": plain,
}

#: Where the rows of a part stand on the page.
SECTIONS = {
    "kernels": "Kernels",
    "subproblem": "Subproblem",
    "steps": "A step against m, against d, and where the time goes",
    "torch_lbfgs": "Beside torch.optim.LBFGS",
    "torch_adapter": "In a training loop",
    "accuracy": "float32 products",
    "overhead": "Small problems",
    "memory": "Memory",
    "memory_mapped": "Data larger than memory",
}


def targets() -> str:
    """Return every target with what was measured."""
    rows = {part: store.load(part)["rows"] for part in TABLES}
    steps = [r for r in rows["steps"] if _is_big(r["case"])]
    lbfgs = [r for r in rows["torch_lbfgs"] if _is_big(r["case"])]
    lines = [
        _line(f"step, {mode}: passes", f"<= {STEP}", _column(_of(steps, mode=mode), "passes")) for mode in TWO_PASSES
    ]
    lines.append(
        _line("step, whole set: passes", f"<= {STEP}", _column(_of(steps, mode="whole set"), "passes, any step"))
    )
    for mode in (*TWO_PASSES, "whole set"):
        lines.append(_line(f"step, {mode}, over torch.optim.LBFGS's", f"<= {SHARE}", _column(lbfgs, f"{mode} / LBFGS")))
    at_32 = _of(rows["subproblem"], m=32)
    lines.append(_line("subproblem by QR over ours, m = 32", f">= {TIMES:g}", _column(at_32, "QR / ours")))
    for name in ("numpy, ours", "torch, ours"):
        lines.append(_line(f"float32 products, error, {name}", f"<= {ERROR:g}", _column(rows["accuracy"], name)))
    lines.append(_line("step at d = 10, m = 10: ms", f"<= {SMALL}", _column(rows["overhead"], "ms")))
    return table(["what", "target", "least", "most", "reached"], lines)


def _is_big(case: Row) -> bool:
    return bool(case["d"] == 1_000_000 and case["m"] >= 16)


def _column(rows: list[Row], name: str) -> list[float]:
    return [r["found"][name] for r in rows if name in r["found"]]


def _of(rows: list[Row], **case: Any) -> list[Row]:
    return [row for row in rows if case.items() <= row["case"].items()]


def _line(what: str, target: str, known: list[float]) -> list[str]:
    if not known:
        return [what, target, "-", "-", "not measured"]
    sign, limit = target.split()
    met = [v <= float(limit) if sign == "<=" else v >= float(limit) for v in known]
    return [what, target, number(min(known)), number(max(known)), f"{sum(met)} of {len(met)}"]


def blocks() -> dict[str, str]:
    """Return every marked block of the page."""
    rows = {part: store.load(part)["rows"] for part in TABLES}
    texts = {part: TABLES[part](rows[part]) for part in TABLES if part != "steps"}
    texts |= {
        "against-m": against_m(rows["steps"]),
        "against-d": against_d(rows["steps"]),
        "parts": parts(rows["steps"]),
    }
    texts |= {"targets": targets(), "machine": machines()}
    return texts


def machines() -> str:
    """Return what was measured on what: a paragraph a machine, with the sections that are of it where there are two."""
    sections: dict[str, list[str]] = {}
    for part in TABLES:
        sections.setdefault(described(store.load(part)["heading"]), []).append(SECTIONS[part])
    if len(sections) == 1:
        return next(iter(sections))
    return "\n\n".join(f"*{'*, *'.join(names)}*: {machine}" for machine, names in sections.items())


def filled(page: str) -> str:
    """Return the page with its marked blocks written anew."""
    texts = blocks()

    def block(found: re.Match[str]) -> str:
        return f"<!-- bench: {found[1]} -->\n\n{texts[found[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- bench: (\S+) -->\n.*?<!-- end -->", block, page, flags=re.S)


def write() -> str:
    """Write the page's tables and its pictures; return the path."""
    from benchmarks.micro import pictures

    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    pictures.draw(store.load("steps")["rows"], store.load("torch_lbfgs")["rows"], PICTURES)
    return f"written: {PAGE.relative_to(PAGE.parents[1])}"

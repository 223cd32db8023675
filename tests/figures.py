"""Figures of docs/testing.md, from what the tools leave: ``python tests/figures.py mutation``, ``... coverage``.

``... survivors`` prints the names of the mutants that live. A mutant that no test kills has to be in
tests/survivors.toml with the reason why it is equivalent; one that is not there, or too few kills, make an exit status
of 1, after the page is written.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"
MUTANTS = ROOT / "mutants"
SOURCES = "src/mblsr1"
#: Share of the mutants that have to be killed.
FLOOR = 0.9
#: Exit codes of a failed test, and of a run that ended at the time limit or in a crash.
FAILED, STOPPED = (1, 3), (24, 36, 152, 255, -24, -9, -11)


class Mutant(NamedTuple):
    """A change of one function."""

    file: str
    function: str
    old: str
    new: str
    code: int | None
    name: str

    @property
    def key(self) -> str:
        return f"{self.file} {self.function}: {self.old} => {self.new}"


def mutants_of(meta: Path) -> list[Mutant]:
    """All mutants of a file, from mutmut's records."""
    path = meta.relative_to(MUTANTS).as_posix().removesuffix(".meta")
    codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
    if not codes:
        return []
    spans = json.loads((MUTANTS / f"{path}.spans").read_text(encoding="utf-8"))["spans"]
    text = (MUTANTS / path).read_text(encoding="utf-8").splitlines()
    return [one_mutant(path.removeprefix(f"{SOURCES}/"), name, code, spans, text) for name, code in codes.items()]


def one_mutant(file: str, name: str, code: int | None, spans: dict[str, list[int]], text: list[str]) -> Mutant:
    mangled = name.rpartition(".")[2]
    stem = mangled.rpartition("__mutmut_")[0]
    original, changed = (
        [line.strip().replace(who, stem) for line in text[spans[who][0] - 1 : spans[who][1]]]
        for who in (f"{stem}__mutmut_orig", mangled)
    )
    lines = list(difflib.ndiff(original, changed))
    old, new = (" ".join(line[2:] for line in lines if line.startswith(sign)) for sign in ("- ", "+ "))
    # a method is xǁClassǁname, a function x_name
    function = stem.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in stem else stem.removeprefix("x_")
    return Mutant(file, function, old, new, code, name)


def everything() -> dict[str, list[Mutant]]:
    found = {meta: mutants_of(meta) for meta in sorted((MUTANTS / SOURCES).rglob("*.meta"))}
    return {mutants[0].file: mutants for mutants in found.values() if mutants}


def is_killed(mutant: Mutant) -> bool:
    return mutant.code in (*FAILED, *STOPPED)


def counts(mutants: list[Mutant]) -> Counter[str]:
    return Counter(
        total=len(mutants),
        killed=sum(map(is_killed, mutants)),
        open=sum(m.code is None for m in mutants),
    )


def mutation_table(files: dict[str, list[Mutant]]) -> list[str]:
    lines = ["| file | mutants | killed | share |", "| --- | ---: | ---: | ---: |"]
    total: Counter[str] = Counter()
    for file, mutants in files.items():
        count = counts(mutants)
        if count["open"]:
            lines.append(f"| `{file}` | {count['total']} | not run yet | |")
            continue
        total.update(count)
        lines.append(table_row(f"`{file}`", count))
    return [*lines, table_row("**all**", total)]


def table_row(name: str, count: Counter[str]) -> str:
    return f"| {name} | {count['total']} | {count['killed']} | {100 * count['killed'] / max(count['total'], 1):.1f} % |"


def reasons() -> list[dict[str, object]]:
    text = (Path(__file__).parent / "survivors.toml").read_text(encoding="utf-8")
    groups: list[dict[str, object]] = tomllib.loads(text)["reason"]
    return groups


def survivor_lists(survivors: list[Mutant]) -> tuple[list[str], list[Mutant]]:
    """Lines of the page, a paragraph a reason, and the mutants without a reason."""
    rest, lines = list(survivors), []
    for group in reasons():
        these = [m for m in rest if m.key in group["mutants"]]  # type: ignore[operator]
        if these:
            rest = [m for m in rest if m not in these]
            lines += ["", f"**{group['why']}** ({len(these)})", ""]
            lines += [
                f"- `{m.file}`, `{m.function}`: `{m.old}`: {code(a)} → {code(b)}" for m in these for a, b in [spot(m)]
            ]
    return lines, rest


def spot(mutant: Mutant) -> tuple[str, str]:
    """What differs between the two lines, word by word."""
    old, new = (re.findall(r"[\w.]+|[<>=!*/+-]+|\s+|.", text) for text in (mutant.old, mutant.new))
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    end = 0
    while end < min(len(old), len(new)) - same and old[-1 - end] == new[-1 - end]:
        end += 1
    return "".join(old[same : len(old) - end]).strip(), "".join(new[same : len(new) - end]).strip()


def code(text: str) -> str:
    return f"`{text}`" if text else "nothing"


def alive() -> list[Mutant]:
    return [m for mutants in everything().values() for m in mutants if m.code is not None and not is_killed(m)]


def survivors() -> int:
    """Their names, for mutmut."""
    print(" ".join(mutant.name for mutant in alive()))
    return 0


def mutation() -> int:
    files = everything()
    lines, unexplained = survivor_lists(alive())
    write("mutation", mutation_table(files))
    write("survivors", lines)
    for mutant in unexplained:
        print("no reason for the survival of", mutant.key)
    total = counts([m for ms in files.values() for m in ms])
    print(f"{total['killed']} of {total['total']} mutants killed, {total['open']} not run")
    return int(bool(unexplained) or total["killed"] < FLOOR * (total["total"] - total["open"]))


def coverage() -> int:
    """By folder, from coverage.json; the floors are checked by the session itself."""
    report = json.loads((ROOT / "coverage.json").read_text(encoding="utf-8"))
    sums: dict[str, Counter[str]] = {}
    for path, entry in report["files"].items():
        parts = Path(path).as_posix().split(f"{SOURCES}/")[-1].split("/")
        for name in (f"`{parts[0]}/`" if len(parts) > 1 else "`mblsr1`'s own modules", "**all**"):
            sums.setdefault(name, Counter()).update(numbers(entry["summary"]))
    lines = ["| part of `src/mblsr1` | statements | covered | branches | covered |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    lines += [coverage_row(name, sums[name]) for name in [*sorted(sums.keys() - {"**all**"}), "**all**"]]
    write("coverage", lines)
    total = sums["**all**"]
    return int(share(total, "statements") < 98.0 or share(total, "branches") < 95.0)


def numbers(summary: dict[str, int]) -> dict[str, int]:
    return {
        "statements": summary["num_statements"], "covered statements": summary["covered_lines"],
        "branches": summary["num_branches"], "covered branches": summary["covered_branches"],
    }  # fmt: skip


def share(count: Counter[str], what: str) -> float:
    return 100.0 * count[f"covered {what}"] / max(count[what], 1)


def coverage_row(name: str, count: Counter[str]) -> str:
    cells = [f"{count[what]} | {share(count, what):.1f} %" for what in ("statements", "branches")]
    return f"| {name} | {' | '.join(cells)} |"


def write(block: str, lines: list[str]) -> None:
    """Put the lines between the two comments that mark the block in the page."""
    start, end = f"<!-- {block} -->\n", f"<!-- end of {block} -->\n"
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.S)
    made, count = pattern.subn(lambda _: start + "\n" + "\n".join(lines).strip() + "\n\n" + end, text)
    assert count == 1, f"{PAGE}: no block {block}"
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    sys.exit({"mutation": mutation, "survivors": survivors, "coverage": coverage}[sys.argv[1]]())

"""The pages: their code runs, and every file, name, test and setting that they mention exists."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import mblsr1

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Blocks that import one of these are passed over where it is not installed.
OPTIONAL = ("pandas", "sklearn", "matplotlib", "torch", "jax", "mpi4py", "jaxopt")


def blocks(page: Path) -> list[str]:
    """The python blocks of a page, those in list items too, in order."""
    found = re.finditer(r"^( *)```python\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [re.sub(rf"^{m[1]}", "", m[2], flags=re.M) for m in found]


def rows(page: str) -> list[list[str]]:
    """The cells of all table rows of a page, headings and rules left out."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {i for i, row in enumerate(cells) if i + 1 < len(cells) and set("".join(cells[i + 1])) <= set("-: ")}
    return [row for i, row in enumerate(cells) if i not in heads and not set("".join(row)) <= set("-: ")]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def one_thread():
    """One BLAS thread: several wait for each other where tests run side by side."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def with_code() -> list:
    """Pages with code as test parameters, marked with the array libraries that it imports."""
    pages = [page for page in PAGES if blocks(page)]
    texts = ["\n".join(blocks(page)) for page in pages]
    marks = [[getattr(pytest.mark, name) for name in ("torch", "jax") if f"import {name}\n" in text] for text in texts]
    return [pytest.param(page, marks=found, id=page.stem) for page, found in zip(pages, marks, strict=True)]


@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")
@pytest.mark.parametrize("page", with_code())
def test_the_code_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": page.stem}
    with one_thread():
        for number, block in enumerate(blocks(page)):
            needed = [name for name in OPTIONAL if re.search(rf"^\s*(import|from) {name}\b", block, re.M)]
            if all(importlib.util.find_spec(name) for name in needed):
                exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def test_readme_has_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert '\npython -m pip install ".[demo]" && python -m mblsr1 demo\n' in text
    assert "\npython -m pip install nox && python -m nox -s tests\n" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "pictures/", "gallery/")):
            assert (page.parent / target).exists(), target


def test_notation_names_exist_in_their_files():
    table = rows("notation.md")
    assert len(table) > 40
    for _symbol, _meaning, names, _shape, files in table:
        assert code(names), names
        assert code(files), files
        texts = [(ROOT / "src" / "mblsr1" / name).read_text(encoding="utf-8") for name in code(files)]
        for name in code(names):
            last = name.split(".")[-1]
            assert any(re.search(rf"(?<![A-Za-z0-9_]){re.escape(last)}(?![A-Za-z0-9_])", t) for t in texts), (
                name,
                files,
            )


def test_functions_of_the_algorithm_page_exist():
    names = {name for row in rows("algorithm.md") for name in code(row[-1])}
    assert len(names) > 20
    for name in names:
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            path = ROOT / "src" / "mblsr1" / Path(*parts[:cut])
            if path.with_suffix(".py").exists():
                break
        else:
            pytest.fail(f"{name}: no such module")
        thing = importlib.import_module("mblsr1." + ".".join(parts[:cut]))
        for attribute in parts[cut:]:
            fields = getattr(thing, "__dataclass_fields__", {})
            assert hasattr(thing, attribute) or attribute in fields, name
            thing = getattr(thing, attribute, None)


def test_every_reading_has_a_row_and_a_test():
    text = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
    numbers = [int(row[0]) for row in rows("deviations.md") if row[0].isdigit()]
    assert numbers == list(range(1, 21))
    tests = (ROOT / "tests" / "methods" / "test_readings.py").read_text(encoding="utf-8")
    for row in rows("deviations.md"):
        if row[0].isdigit():
            assert f"test_reading_{int(row[0]):02d}_" in row[-1], row[0]
    for name in set(re.findall(r"test_reading_\d\d_\w+", text)):
        assert f"def {name}(" in tests, name


def test_the_tests_of_the_theory_page_exist():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")))
    files = [
        path for folder in ("theorems", "properties", "methods") for path in (ROOT / "tests" / folder).glob("*.py")
    ]
    theorems = {path: path.read_text(encoding="utf-8") for path in files}
    defined = {name for text in theorems.values() for name in re.findall(r"^def (test_\w+)", text, re.M)}
    assert len(named) > 40
    assert named <= defined
    of_theorems = {
        name for path, text in theorems.items() if path.parent.name == "theorems"
        for name in re.findall(r"^def (test_\w+)", text, re.M)
    }  # fmt: skip
    assert of_theorems <= named  # nothing is shown that the page does not say


def test_the_sessions_that_pages_name_exist():
    """And the page on tests names all of those that test."""
    sessions = set(re.findall(r"^@nox.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.M))
    named = {page.stem: re.findall(r"nox -s ((?:\w+ ?)+)", page.read_text(encoding="utf-8")) for page in PAGES}
    words = {stem: {word for phrase in phrases for word in phrase.split()} for stem, phrases in named.items()}
    assert words["testing"] >= {"tests", "backends", "seeds", "mutation", "coverage"}
    assert words["testing"] | words["README"] <= sessions


def test_the_table_of_settings_is_the_code():
    presets = (mblsr1.Options(), mblsr1.Options.paper(), mblsr1.Options.l_ssr1_tr())
    listed = set()
    for row in rows("deviations.md"):
        if len(row) != 5 or len(code(row[0])) != 1 or code(row[0])[0] not in mblsr1.Options.__dataclass_fields__:
            continue
        field = code(row[0])[0]
        listed.add(field)
        for cell, preset in zip(row[1:4], presets, strict=True):
            value = getattr(preset, field)
            shown = code(cell)[0]
            if callable(value):
                assert shown.split("(")[0] in value.__qualname__, (field, shown)
            else:
                assert eval(shown) == value, (field, shown, value)
    differing = {
        name
        for name in mblsr1.Options.__dataclass_fields__
        if name != "scaling" and len({repr(getattr(p, name)) for p in presets}) > 1
    }
    assert differing | {"scaling"} <= listed, differing - listed


def test_api_page_lists_the_public_names():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   (\w+)$", text, re.M))
    assert listed == set(mblsr1.__all__)

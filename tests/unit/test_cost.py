"""The page on cost: its two tables are what runs cost and keep."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import mblsr1

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
D, N, BATCH, PAIRS = 50, 2048, 128, 6
Options = mblsr1.Options

RUNS = {
    "`Options()`, samples": {"options": Options(batch_size=BATCH, largest_share=BATCH / N, memory=PAIRS)},
    "`Options()`, whole set": {"options": Options(batch_size=N, memory=PAIRS)},
    "`Options.paper()`": {"options": Options.paper(batch_size=BATCH, memory=PAIRS)},
    "`Options.l_ssr1_tr()`": {"options": Options.l_ssr1_tr(batch_size=BATCH, memory=PAIRS)},
    "`sgd`": {"method": mblsr1.sgd(0.1), "batch_size": BATCH},
    "`sgd`, momentum": {"method": mblsr1.sgd(0.1, 0.9), "batch_size": BATCH},
    "`adam`": {"method": mblsr1.adam(0.01), "batch_size": BATCH},
    "`rmsprop`": {"method": mblsr1.rmsprop(0.01), "batch_size": BATCH},
    "`svrg`": {"method": mblsr1.svrg(0.1), "batch_size": BATCH},
    "`s_lsr1`": {"method": mblsr1.s_lsr1(memory=PAIRS), "batch_size": BATCH},
}


def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    return X, np.tanh(X @ rng.standard_normal(D) / 7.0) + 0.1 * rng.standard_normal(N)


def both(w, batch):
    X, y = batch
    t = np.tanh(X @ w)
    return float(np.mean((t - y) ** 2)), X.T @ (2.0 * (t - y) * (1.0 - t * t)) / len(y)


def usual_cost(name, fused):
    """Sample-gradients of a step over its batch, the median of a run."""
    functions = (both, True) if fused else (lambda w, b: both(w, b)[0], lambda w, b: both(w, b)[1])
    run = mblsr1.iterate(*functions, np.zeros(D), mblsr1.ArraySampler(*data()), rng=0, max_steps=40, **RUNS[name])
    rows = [(step.n_samples, step.batch_size) for step in run]
    return float(np.median([(b[0] - a[0]) / b[1] for a, b in pairwise(rows)]))


def table(heading):
    text = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]


def factor(cell):
    """`1.083 n`, `(m + 5/3) n` as a number."""
    inner = re.fullmatch(r"\(?(m \+ )?([\d./]+)\)? [nN]", cell)
    assert inner, cell
    return float(Fraction(inner[2])) + (PAIRS if inner[1] else 0)


def work():
    for names, one, two, _ in table("Work of a step"):
        whole = names.replace("(memory=m)", "")
        for name in [whole] if whole in RUNS else re.findall(r"`\w+`", whole):
            yield name, factor(one), factor(two)


@pytest.mark.parametrize(("name", "one", "two"), list(work()))
def test_work_of_a_step(name, one, two):
    assert usual_cost(name, fused=True) == pytest.approx(one, abs=5e-4)
    assert usual_cost(name, fused=False) == pytest.approx(two, abs=5e-4)


def vectors(tree):
    if isinstance(tree, dict):
        return sum(map(vectors, tree.values()))
    if isinstance(tree, list | tuple):
        return sum(map(vectors, tree))
    return tree.size // D if getattr(tree, "shape", ())[-1:] == (D,) else 0


def kept():
    for name, cell in table("Vectors that are kept"):
        for part in [name, name + ", momentum"] if "momentum" in cell else [name]:
            pairs = 2 * PAIRS if cell.startswith("2 m") else 0
            number = re.findall(r"\d+", cell)[-1 if pairs or part.endswith("momentum") else 0]
            yield part, pairs + int(number)


@pytest.mark.parametrize(("name", "number"), list(kept()))
def test_vectors_that_are_kept(name, number):
    result = mblsr1.minimize(
        both, True, np.zeros(D), mblsr1.ArraySampler(*data()), rng=0, max_steps=10, **RUNS[name]
    )  # fmt: skip
    assert vectors(result.state.tree) == number


def test_all_methods_are_in_both_tables():
    assert {name for name, _, _ in work()} == set(RUNS) - {"`sgd`, momentum"}
    assert {name for name, _ in kept()} == set(RUNS)

"""The model of step times: limits that can be computed by hand."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model():
    return importlib.import_module("benchmarks.scaling.model")


def test_one_rank_does_everything_in_turn(model):
    work, node = model.Work(d=1000, batch=30, gradients=3), model.Node(number=1e-6, fixed=0.5, entry=1e-3)
    assert model.simulate(work, node, 1, lambda ranks, d: 0.25) == pytest.approx(
        30 * 1000 * 1e-6 + 3 * 0.25 + 0.5 + 1.0
    )


@pytest.mark.parametrize(("ranks", "slowest"), [(2, 8), (3, 6), (4, 4), (16, 1), (64, 1)])
def test_the_rank_with_most_blocks_is_waited_for(model, ranks, slowest):
    work, node = model.Work(d=10, batch=48), model.Node(number=1.0, fixed=0.0, entry=0.0)
    assert model.simulate(work, node, ranks, lambda *_: 0.0) == pytest.approx(480 * slowest / 16)


def test_ranks_that_share_cores_are_slower_by_as_much(model):
    work, node = model.Work(d=10, batch=48), model.Node(1.0, 7.0, 0.0, cores=2)
    assert model.simulate(work, node, 4, lambda *_: 0.0) == pytest.approx(2 * (480 / 4 + 7.0))


def test_a_long_exchange_costs_twice_the_gradient(model):
    network = model.Network("", latency=0.0, start=0.0, bandwidth=8.0)
    assert model.exchange_time(network, 1, 10**6) == 0.0
    assert model.exchange_time(network, 2, 999_999) == pytest.approx(10**6)
    assert model.exchange_time(network, 1024, 999_999) == pytest.approx(2 * 10**6, rel=2e-3)


def test_the_page_is_made_from_the_measured_times():
    report = importlib.import_module("benchmarks.scaling.report")
    found = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for row in report.compared(found):
        assert report._row(*row) in page

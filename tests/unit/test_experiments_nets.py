"""Figures 2 and 3: grids, networks on rows, tuning in rounds, what the reports say of the runs."""

import importlib
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest


def module(name):
    return importlib.import_module(f"benchmarks.{name}")


def experiments(name):
    return module(f"experiments.{name}")


def test_the_grids_are_those_of_table_2():
    t = experiments("table2")
    sizes = {row: len(t.grid(row)) for row in t.TABLE}
    assert sizes == {
        "SGD": 27, "SGD (large batch)": 18, "Adam": 20, "Adam (large batch)": 10, "SVRG": 20, "SVRG (large batch)": 10,
        "RMSprop": 20, "RMSprop (large batch)": 10, "L-SSR1-TR": 18, "MB-LSR1": 18,
    }  # fmt: skip
    for row in ("Adam", "SVRG", "RMSprop"):
        assert {s["rate"] for s in t.grid(row)} == {0.3, 0.1, 0.01, 0.001, 0.0001}
        assert {s["batch"] for s in t.grid(row)} == {16, 64, 128, 256}
        assert {s["batch"] for s in t.grid(f"{row} (large batch)")} == {4048, 8192}
    assert {s["momentum"] for s in t.grid("SGD")} == {0.9, 0.95, 0.99}
    assert {s["rate"] for s in t.grid("SGD (large batch)")} == {0.01, 0.001, 0.0001}
    assert {s["batch"] for s in t.grid("SGD")} == {64, 128, 256}
    for row in ("L-SSR1-TR", "MB-LSR1"):
        found = {(s["memory"], s["batch"], s["initial_radius"]) for s in t.grid(row)}
        assert found == {(m, b, r) for m in (16, 32, 64) for b in (128, 256, 1024) for r in (1e-4, 1e-5)}


@pytest.mark.torch
def test_the_networks_have_the_parameters_of_table_1():
    pytest.importorskip("torch")
    nets = module("tune.networks")
    assert nets.NetDNN().ends[-1] == 59_946
    assert nets.ResNet20(np.zeros((2, 3, 8, 8), np.float32)).ends[-1] == 272_474


def images(n, side, channels, seed=0):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    shape = (n, channels, side, side) if channels > 1 else (n, side, side)
    X, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, n)
    return experiments("nets").Images(torch.from_numpy(X), torch.from_numpy(y))


def trainee(n=7, piece=3, side=28):
    nets = experiments("nets")
    return nets.Trainee(module("tune.networks").NetDNN(), images(n, side, 1), piece)


@pytest.mark.torch
def test_pieces_of_a_batch_give_the_gradient_of_the_whole():
    found = trainee()
    w, rows = found.start(0), np.array([6, 0, 3, 1, 5])
    X, y = (t.numpy() for t in found.images)
    loss, g = found.network.loss_and_gradient(w.numpy(), (X[rows], y[rows]))
    ours, gradient = found.loss_and_gradient(w, rows)
    close = {"rtol": 1e-4, "atol": 1e-6 * float(np.abs(g).max())}
    assert ours == pytest.approx(loss, rel=1e-5)
    assert found.loss(w, rows) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(gradient.numpy(), g, **close)
    np.testing.assert_allclose(found.gradient(w, rows).numpy(), g, **close)


@pytest.mark.torch
def test_batch_norm_sees_the_whole_batch_and_evaluates_with_the_reference():
    pytest.importorskip("torch")
    nets, found = experiments("nets"), images(6, 8, 3)
    network = module("tune.networks").ResNet20(found.X[:4].numpy())
    resnet = nets.Trainee(network, found, None)
    w, rows = resnet.start(0), np.arange(6)
    want, g = network.loss_and_gradient(w.numpy(), (found.X.numpy(), found.y.numpy()))
    ours, gradient = resnet.loss_and_gradient(w, rows)
    assert ours == pytest.approx(want, rel=1e-4)
    np.testing.assert_allclose(gradient.numpy(), g, rtol=1e-4, atol=1e-5 * float(np.abs(g).max()))
    scores = network.scores(w.numpy(), found.X.numpy())
    (_, first), (_, rest) = resnet.measured(
        w, nets.Images(*(t[:2] for t in found)), nets.Images(*(t[2:] for t in found))
    )
    right = scores.argmax(1) == found.y.numpy()
    assert (first, rest) == (pytest.approx(right[:2].mean()), pytest.approx(right[2:].mean()))


@pytest.mark.torch
def test_equal_seeds_give_equal_starts():
    found = trainee()
    assert (found.start(1) == found.start(1)).all()
    assert not (found.start(1) == found.start(2)).all()


@pytest.mark.torch
def test_data_that_is_too_small_is_refused(monkeypatch):
    pytest.importorskip("torch")
    nets = experiments("nets")
    few = module("data").Split(np.zeros((5, 28, 28)), np.zeros(5, int), np.zeros((2, 28, 28)), np.zeros(2, int))
    monkeypatch.setitem(nets.SPLITS, "mnist", lambda n, side: few)
    with pytest.raises(ValueError, match="mnist: 6 training images are needed, the data has 5"):
        nets.case.__wrapped__("mnist", 4, 2, 28, "cpu")
    found = nets.case.__wrapped__("mnist", 3, 2, 28, "cpu")
    assert (len(found.trainee.images.y), len(found.held_out.y), len(found.test.y)) == (3, 2, 2)


def run(row, options, **changes):
    plain = {"row": row, "options": options, "divisor": 2, "n_train": 12, "epochs": 6, "seed": 0, "points": 3}
    return {**plain, "device": "cpu", **changes}


CASES = [
    ("SGD (large batch)", {"rate": 0.01, "momentum": 0.9, "batch": 8}),
    ("Adam (large batch)", {"rate": 0.01, "batch": 8}),
    ("RMSprop", {"rate": 0.001, "batch": 8}),
    ("SVRG", {"rate": 0.01, "batch": 8}),
    ("L-SSR1-TR", {"memory": 4, "batch": 8, "initial_radius": 1e-4}),
    ("MB-LSR1", {"memory": 4, "batch": 8, "initial_radius": 1e-4}),
    ("default", {}),
    ("blocks", {}),
]


@pytest.mark.parametrize(("row", "options"), CASES, ids=[row for row, _ in CASES])
@pytest.mark.torch
def test_a_run_of_each_row_keeps_to_its_budget(row, options):
    found = experiments("nets").Case(trainee(12), images(5, 28, 1, 1), images(6, 28, 1, 2))
    result = experiments("training").trained(run(row, options), found)
    assert 0 < result["cost"] <= 72
    assert result["finite"]
    assert result["steps"] > 0
    assert set(result) >= {"loss", "train_accuracy", "held_out_accuracy", "test_accuracy", "cpu_seconds", "batch"}
    costs = [point[0] for point in result["curve"]]
    assert costs[0] == 0
    assert costs == sorted(costs)
    assert len(costs) >= 3
    json.dumps(result)


@pytest.mark.torch
def test_the_batch_is_table_2s_over_the_divisor_and_losses_are_apart_for_the_line_search():
    training, found = experiments("training"), trainee()
    fun, grad, rest = training.arguments(run("MB-LSR1", CASES[5][1]), found)
    assert (rest["options"].batch_size, rest["options"].memory, rest["options"].gtol) == (4, 4, 0.0)
    assert rest["options"].globalization == "line-search"
    assert (fun, grad) == (found.loss, found.gradient)
    fun, grad, rest = training.arguments(run("default", {}), found)
    assert (fun, grad) == (found.loss_and_gradient, True)
    assert (rest["options"].batch_size, rest["options"].memory, rest["options"].gtol) == (256, None, 0.0)
    _, _, rest = training.arguments(run("SGD", CASES[0][1]), found)
    assert (rest["options"].batch_size, rest["method"].name) == (4, "sgd")


@pytest.mark.torch
def test_a_run_that_leaves_the_numbers_is_stored_as_such():
    found = experiments("nets").Case(trainee(12), images(5, 28, 1, 1), images(6, 28, 1, 2))
    result = experiments("training").trained(run("SGD", {"rate": 1e30, "momentum": 0.9, "batch": 8}), found)
    assert not result["finite"]
    json.loads(json.dumps(result, allow_nan=False))


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A store of its own for both figures, and a plan of two rounds."""
    f2, found = experiments("figure2"), module("store").Store("networks", tmp_path)
    names = ("training", "figure2", "figure3", "report_figure2", "report_figure3")
    for users in [experiments(name) for name in names]:  # all are imported before one is changed
        monkeypatch.setattr(users, "STORE", found)
    plan = f2.PLANS["small"]["cifar10"]._replace(rounds=(f2.Round(1, 2), f2.Round(2, 1)), seeds=2)
    monkeypatch.setitem(f2.PLANS["small"], "cifar10", plan)
    return found


def result(held_out, test, loss=1.0, finite=True, train=0.9):
    curve = [[0, 0.0, 2.0, 0.1, 0.1], [4096, 1.0, loss, train, test]]
    return {
        "loss": loss, "finite": finite, "held_out_accuracy": held_out, "test_accuracy": test, "train_accuracy": train,
        "curve": curve, "steps": 3, "cost": 8192, "cpu_seconds": 2.0, "machine": "a machine",
    }  # fmt: skip


def test_tuning_goes_in_rounds_and_then_come_the_seeds(store):
    f2, row = experiments("figure2"), "Adam (large batch)"
    plan = f2.PLANS["small"]["cifar10"]

    def missing():
        return [job for job in f2.jobs("small", ["cifar10"]) if job["row"] == row]

    first = missing()
    assert [job["options"] for job in first] == experiments("table2").grid(row)
    assert all((job["role"], job["epochs"], job["divisor"]) == ("tuning", 1, 4) for job in first)
    for i, job in enumerate(first):  # 9 is best but left the numbers; 4 and 5 are equal but for the loss; 6 is third
        store.save(job, result(0.1 * i if i in (4, 9) else 0.4 if i == 5 else 0.3, 0.0, loss=10 - i, finite=i != 9))
    second = missing()
    assert [job["options"] for job in second] == [first[5]["options"], first[4]["options"]]
    assert all(job["epochs"] == 2 for job in second)
    for job, held_out in zip(second, (0.5, 0.6), strict=True):
        store.save(job, result(held_out, 0.0))
    last = missing()
    assert [(job["role"], job["options"], job["seed"]) for job in last] == [
        ("final", first[4]["options"], 0), ("final", first[4]["options"], 1)
    ]  # fmt: skip
    assert (last[0]["epochs"], last[0]["n_held_out"], last[0]["n_train"]) == (plan.epochs, 0, plan.n_train)
    assert last[0]["points"] == f2.POINTS


def test_figure_3_takes_the_runs_that_figure_2_tunes_with(store):
    f2, f3 = experiments("figure2"), experiments("figure3")
    shared = {module("store").key(job) for job in f2.jobs("small", ["cifar10"]) if job["role"] == "tuning"}
    needed = [module("store").key(job) for job in f3.jobs("small")]
    assert len(needed) == len(set(needed)) == 27 + 18 + 18 + 18
    assert len(shared & set(needed)) == 18 + 18  # SGD at large batch, MB-LSR1


def fill(store, accuracy):
    """All tuning runs of figure 2's CIFAR-10 with equal results, and final runs with `accuracy(row, seed)`."""
    f2 = experiments("figure2")
    while jobs := f2.jobs("small", ["cifar10"]):
        for job in jobs:
            store.save(job, result(0.5, accuracy(job["row"], job["seed"]) if job["role"] == "final" else 0.2))


def test_the_verdicts_of_figure_2_follow_the_data(store):
    report = experiments("report_figure2")
    table = {"MB-LSR1": 0.6, "default": 0.4, "SGD (large batch)": 0.5, "L-SSR1-TR": 0.55}
    wide = {"blocks": (0.2, 0.9)}
    fill(store, lambda row, seed: wide[row][seed] if row in wide else table.get(row, 0.3) + 0.001 * seed)
    found = report.results("cifar10")
    assert report.best_first_order(found) == "SGD (large batch)"
    holds = [claim.holds for claim in report.claims()]
    assert holds[:4] == ["yes", "no", "not shown", "yes"]
    assert [verdict.split(":")[0] for verdict in holds[4:]] == ["yes", "no", "yes"]  # generalise


@pytest.mark.parametrize(
    ("train", "test", "verdict"),
    [
        (0.62, 0.60, "yes"),  # the peer has .9 and .5
        (0.90, 0.50, "yes"),
        (0.914, 0.505, "yes"),  # a gap .9 points larger
        (0.98, 0.52, "no"),
        (0.33, 0.31, "not shown: the test accuracy is lower"),  # hardly fitted: no gap, and no merit
        (0.89, 0.499, "not shown: the test accuracy is lower"),
        (0.90, 0.40, "no"),
    ],
)
def test_a_small_gap_counts_where_the_test_accuracy_is_not_lower(train, test, verdict):
    report = experiments("report_figure2")
    found = {
        "MB-LSR1": report.Curve({}, [result(0.0, test, train=train)]),
        "Adam": report.Curve({}, [result(0.0, 0.5, train=0.9)]),
    }
    claim = report.generalises(found, "cifar10", "MB-LSR1", "Adam")
    assert claim.holds == verdict
    assert f"({train:.3f} - {test:.3f}) against +40.0 (0.900 - 0.500, Adam)" in claim.measured


def test_curves_go_from_the_start_to_where_the_shortest_ends():
    report = experiments("report_figure2")
    curves = [result(0.0, 0.2)["curve"], [*result(0.0, 0.3)["curve"], [6144, 2.0, 0.5, 0.9, 0.4]]]
    x, rows = report.along(curves, report.TEST, lambda point: point[report.COST] / 4096)
    assert (x[0], x[-1]) == (0.0, 1.0)
    np.testing.assert_allclose(rows[:, 0], 0.1)
    np.testing.assert_allclose(rows[:, -1], [0.2, 0.3])


def test_a_picture_of_figure_2_has_the_error_on_the_watched_images_and_the_ends_apart(store):
    pytest.importorskip("matplotlib")
    report, f2 = experiments("report_figure2"), experiments("figure2")
    plan = f2.PLANS["small"]["cifar10"]
    for seed in range(2):
        run = {**result(0.0, 0.75, train=0.9), "curve": [[0, 0.0, 2.0, 0.1, 0.1], [4096, 1.0, 0.5, 1.0, 0.8]]}
        store.save(f2.final("cifar10", plan, "default", {}, seed), run)
    figure = report.curves("cifar10")
    train, test = (axis.get_lines() for axis in (figure.axes[0], figure.axes[2]))
    assert figure.axes[0].get_yscale() == "log"
    assert train[0].get_ydata()[-1] == pytest.approx(0.5 / 500)  # no error on 500 images
    assert test[0].get_ydata()[-1] == pytest.approx(0.2)
    assert test[1].get_xydata()[0] == pytest.approx([2.0, 0.25])
    assert figure.get_suptitle() == (
        "ResNet20 (272,474 parameters) on CIFAR-10, 4,096 training images at 8 x 8, 10 epochs, 2 seeds"
    )


def test_one_seed_decides_nothing():
    paired = experiments("common").paired
    assert paired([0.9], [0.1]).sign == 0
    assert math.isinf(paired([0.9], [0.1]).half)
    assert paired([0.9, 0.8], [0.5, 0.4]).sign == 1


def test_the_verdicts_of_figure_3_follow_the_data(store):
    report, f3 = experiments("report_figure3"), experiments("figure3")
    assert (report.claims(), report.section()) == ([], "")
    high = {"SGD": (0.1, 0.5), "SGD (large batch)": (0.1, 0.3), "MB-LSR1": (0.15, 0.16), "default": (0.3, 0.8)}
    for row in f3.ROWS:
        jobs = f3.runs("small", row)
        for job, value in zip(jobs, np.linspace(*high[row], len(jobs)), strict=True):
            store.save(job, result(0.0, float(value)))
    holds = [claim.holds for claim in report.claims()]
    assert holds == ["yes", "no", "no", "yes"]
    assert f3.jobs("small") == []
    assert report.spread(np.linspace(0.0, 1.0, 11)) == pytest.approx(0.8)


def fill_figure_3(store, high):
    """Runs of figure 3 with accuracies between two numbers; those that differ in memory alone are equal."""
    for row, ends in high.items():
        jobs = experiments("figure3").runs("small", row)
        made = [{k: v for k, v in job["options"].items() if k != "memory"} for job in jobs]
        kinds = [kind for i, kind in enumerate(made) if kind not in made[:i]]
        values = np.linspace(*ends, len(kinds))
        for i, job in enumerate(jobs):
            run = {**result(0.0, float(values[kinds.index(made[i])])), "cpu_seconds": float(i)}
            store.save(job, {**run, "curve": [[cost, i, *rest] for cost, _, *rest in run["curve"]]})


def test_equal_runs_count_once_in_figure_3(store):
    pytest.importorskip("matplotlib")
    report = experiments("report_figure3")
    high = {"SGD": (0.1, 0.5), "SGD (large batch)": (0.11, 0.3), "MB-LSR1": (0.15, 0.16), "default": (0.3, 0.8)}
    fill_figure_3(store, high)
    assert [(len(report.records(row)), len(report.distinct(row))) for row in (*high, report.ALL_SGD)] == [
        (27, 27), (18, 18), (18, 6), (18, 6), (45, 45),
    ]  # fmt: skip
    np.testing.assert_allclose(report.accuracies("MB-LSR1"), np.linspace(0.15, 0.16, 6))
    text = report.section()
    assert "| MB-LSR1 (paper) | 18 (6) |" in text
    assert "the 18 of MB-LSR1 (paper) make 6" in text
    assert "18 settings, 6 distinct runs" in report.bands().axes[2].get_title()


def test_a_claim_of_figure_3_is_judged_against_all_batches_and_against_small_ones(store):
    report = experiments("report_figure3")
    high = {"SGD": (0.3, 0.4), "SGD (large batch)": (0.1, 0.11), "MB-LSR1": (0.32, 0.34), "default": (0.1, 0.58)}
    fill_figure_3(store, high)
    robust, easy, robust_default, easy_default = report.claims()
    assert (robust.holds, easy.holds) == ("yes", "yes (all batches), no (small batches)")
    assert (robust_default.holds, easy_default.holds) == ("no", "yes (all batches), no (small batches)")
    assert "0.330 against SGD's 0.315 (all batches) and 0.350 (small batches)" in easy.measured


def test_equal_runs_of_the_committed_figure_3_differ_in_memory_alone():
    report, page = experiments("report_figure3"), experiments("report")
    with page.packed_alone():
        for row in ("MB-LSR1", "default"):
            groups = {}
            for record in report.records(row):
                options = dict(record["settings"]["options"])
                options.pop("memory")
                groups.setdefault(report._numbers(record["result"]), []).append(options)
            assert len(groups) < 18
            assert all(options == group[0] for group in groups.values() for options in group)


def test_the_page_shows_both_figures(store, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    page, f3 = experiments("report"), experiments("figure3")
    fill(store, lambda row, seed: 0.3)
    for job in f3.jobs("small"):
        store.save(job, result(0.0, 0.2))
    monkeypatch.setattr(page, "PARTS", ("figure2", "figure3"))
    page.write(tmp_path / "page.md", tmp_path / "pictures")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "## Figure 2" in text
    assert "## Figure 3" in text
    assert "Not yet run" not in text
    names = {p.name for p in (tmp_path / "pictures").iterdir()}
    assert names == {f"{n}.{e}" for n in ("figure2_cifar10", "figure3") for e in ("png", "svg")}


def test_a_row_that_is_not_complete_is_named(store):
    f2, report = experiments("figure2"), experiments("report_figure2")
    job = next(job for job in f2.jobs("small", ["cifar10"]) if job["row"] == "default")
    store.save(job, result(0.0, 0.3))
    assert "Not yet run: SGD (large batch)" in report.section()
    assert report.claims() == []


@pytest.mark.torch
def test_a_run_is_made_and_stored_by_its_settings(store, monkeypatch):
    training = experiments("training")
    found = experiments("nets").Case(trainee(12), images(5, 28, 1, 1), images(6, 28, 1, 2))
    monkeypatch.setattr(training, "case", lambda *settings: found)
    job = run("SGD", CASES[0][1], data="mnist", n_held_out=5, side=28, points=0)
    training.work(job)
    record = store.records()[0]
    assert record["settings"] == job
    assert record["result"]["curve"] == []
    assert "test_accuracy" not in record["result"]
    assert isinstance(SimpleNamespace(**record["result"]).machine, str)

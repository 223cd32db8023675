"""The development bench's own logic, without data and without jax or torch."""

import importlib
import math
import sys

import numpy as np
import pytest


def module(name):
    return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def store(tmp_path):
    return module("store").Store("test", tmp_path)


def test_no_module_of_the_bench_needs_jax_or_torch_to_be_imported():
    before = set(sys.modules)
    for name in ("deterministic", "stochastic", "report", "report_deterministic", "pictures", "__main__"):
        module(f"tune.{name}")
    assert not {"jax", "torch", "sif2jax", "matplotlib"} & (set(sys.modules) - before)


def test_a_stored_run_is_found_again_by_its_settings(store):
    key = module("store").key
    store.save({"a": 1, "version": "1"}, {"loss": 2.0})
    assert key({"version": "1", "a": 1}) in store.finished()
    assert key({"a": 1, "version": "2"}) not in store.finished()


def test_the_newest_version_of_a_run_is_reported_and_packing_loses_nothing(store, monkeypatch):
    s = module("store")
    for version, when in (("1", "2026-01-01"), ("2", "2026-01-02")):
        store.save({"a": 1, "version": version}, {"loss": version})
        path = store.runs / f"test-{s.key({'a': 1, 'version': version})}.json"
        text = path.read_text()
        at = text.index('"finished"')
        path.write_text(text[:at] + f'"finished": "{when}"}}')
    wanted = {s.key({"a": 1}): "2"}
    assert {k: r["result"]["loss"] for k, r in store.newest().items()} == wanted
    store.pack()
    for path in store.runs.iterdir():
        path.unlink()
    assert {k: r["result"]["loss"] for k, r in store.newest().items()} == wanted


def test_comments_and_docstrings_do_not_change_the_version_of_the_code(tmp_path):
    code_version = module("store").code_version
    path = tmp_path / "a.py"
    path.write_text("def f(x):\n    return x + 1\n")
    first = code_version(tmp_path, "1")
    path.write_text('def f(x):\n    """Text."""\n    return x + 1  # more\n')
    assert code_version(tmp_path, "1") == first
    path.write_text("def f(x):\n    return x + 2\n")
    assert code_version(tmp_path, "1") != first


@pytest.fixture
def counter():
    return module("tune.deterministic").Counter(lambda w: float(w @ w), lambda w: 2.0 * w, np.full(2, 10.0))


def test_a_loss_and_a_gradient_at_one_point_are_one_paired_evaluation(counter):
    w = np.ones(2)
    counter.fun(w)
    counter.grad(w.copy())
    counter.fun(2.0 * w)
    assert (counter.losses, counter.gradients, counter.paired) == (2, 1, 2)


def test_the_count_stops_at_the_first_small_gradient(counter):
    bench = module("tune.deterministic")
    assert counter.goal == pytest.approx(bench.TOLERANCE * math.hypot(20.0, 20.0))
    with pytest.raises(bench.Done):
        counter.grad(np.full(2, 1e-5))
    assert counter.solved


def test_the_count_stops_at_the_cap_and_an_old_point_is_free(counter, monkeypatch):
    bench = module("tune.deterministic")
    monkeypatch.setattr(bench, "MAX_PAIRED", 2)
    counter.fun(np.ones(2))
    counter.fun(2.0 * np.ones(2))
    counter.grad(np.ones(2))
    with pytest.raises(bench.Done):
        counter.fun(3.0 * np.ones(2))
    assert not counter.solved
    assert counter.paired == 2


@pytest.mark.parametrize("runner", ["L-BFGS-B", "mblsr1"])
def test_runners_solve_a_quadratic(runner):
    curvature = np.array([1.0, 10.0, 100.0])
    bench, problems = module("tune.deterministic"), module("tune.problems")
    compiled = problems.Functions(lambda w: 0.5 * float(curvature @ w**2), lambda w: curvature * w, np.ones(3))
    result = bench.solve(compiled, runner, {})
    assert result["solved"]
    assert 2 <= result["gradients"] <= result["paired"] <= 100


def test_ratios_are_geometric_means_over_what_both_solve():
    ratio = module("tune.report_deterministic").ratio
    base = {
        "A": {"solved": True, "paired": 10},
        "B": {"solved": True, "paired": 10},
        "C": {"solved": False, "paired": 1},
    }
    ours = {
        "A": {"solved": True, "paired": 20},
        "B": {"solved": True, "paired": 5},
        "C": {"solved": True, "paired": 9},
        "D": {"skipped": "no"},
    }
    assert ratio(ours, base, "paired") == (pytest.approx(1.0), 2)


def test_profile_is_the_share_solved_within_a_cost():
    profile = module("tune.report_deterministic").profile
    np.testing.assert_allclose(profile(np.array([1.0, 3.0, np.inf, 2.0]), np.array([1.0, 2.5, 9.0])), [0.25, 0.5, 0.75])


def run(loss, seconds=1.0):
    return {"loss": loss, "accuracy": 0.5, "cpu_seconds": seconds, "steps": 10, "n_samples": 9, "batch": 3}


def test_the_setting_with_the_smallest_mean_loss_and_all_seeds_is_chosen():
    report = module("tune.report")
    grid = [
        ({"rate": 1}, [run(1.0), run(3.0)], "1"),
        ({"rate": 2}, [run(0.0), run(None)], "1"),
        ({"rate": 3}, [run(0.1)], "1"),
        ({"rate": 4}, [run(2.5), run(2.5)], "1"),
    ]
    assert report.chosen(grid, 2).options == {"rate": 1}
    assert report.chosen(grid[2:3], 2) is None


def test_the_ratio_is_to_the_best_first_order_method_not_to_one_that_sees_matrices():
    report = module("tune.report")
    row = {"SGD": 4.0, "Adam": 2.0, "SOAP": 0.1, "mblsr1 default": 1.0}
    row = {name: report.Best({}, [run(loss)], "1") for name, loss in row.items()}
    assert report.against(row, "mblsr1 default") == 0.5
    assert math.isnan(report.against(row, "nobody"))


def test_the_report_says_what_did_not_stay_finite():
    report = module("tune.report")
    row = {"SGD": report.Best({"rate": 0.1}, [run(1.0)], "1"), "mblsr1 default": report.Best({}, [run(None)], "1")}
    text = report.task_table("ecoli", row)
    assert "not finite" in text
    assert "inf" in report.summary({"ecoli": row})


def test_the_gradient_of_the_perceptron_is_that_of_its_loss():
    network = module("tune.networks").Perceptron(4, 3, 5, 2)
    rng = np.random.default_rng(0)
    w, X, y = network.start(rng), rng.standard_normal((7, 4)), rng.integers(0, 2, 7)
    f, g = network.loss_and_gradient(w, (X, y))
    assert f == pytest.approx(network.loss(w, X, y, chunk=3))
    v = rng.standard_normal(w.size)
    h = 1e-6
    slope = (network.loss(w + h * v, X, y) - network.loss(w - h * v, X, y)) / (2 * h)
    assert g @ v == pytest.approx(slope, rel=1e-6)


def test_networks_have_the_parameters_of_the_paper():
    networks = module("tune.networks")
    assert networks.NetDNN().ends[-1] == 59_946
    assert networks.ResNet20(None).ends[-1] == 272_474


@pytest.fixture
def small_task(monkeypatch, store):
    """A task of 40 random samples in place of data from disk."""
    stochastic, data, networks = module("tune.stochastic"), module("data"), module("tune.networks")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    monkeypatch.setattr(stochastic, "setting", lambda name: (networks.Perceptron(3, 4, 2), data.Split(X, y, X, y)))
    monkeypatch.setattr(stochastic, "STORE", store)
    return stochastic


@pytest.mark.parametrize("family", ["SGD", "Adam", "mblsr1 default", "mblsr1 blocks", "mblsr1 blocks: floor .1"])
def test_a_run_spends_its_budget_and_is_not_made_twice(small_task, store, family):
    jobs = small_task.jobs(["ecoli"], 1, [family], epochs=3)
    small_task.work(jobs[0])
    result = store.records()[0]["result"]
    assert 120 - 40 < result["cost"] <= 120
    assert result["batch"] == 5
    assert [p[0] for p in result["curve"]] == sorted(p[0] for p in result["curve"])
    assert result["curve"][-1][0] == round(result["cost"])
    assert small_task.jobs(["ecoli"], 1, [family], epochs=3) == jobs[1:]


def test_other_seeds_of_a_thrifty_task_run_the_best_of_seed_0(small_task, store, monkeypatch):
    tasks = module("tune.tasks")
    monkeypatch.setitem(tasks.TASKS, "ecoli", tasks.TASKS["ecoli"]._replace(thrifty=True))
    grid = small_task.jobs(["ecoli"], 3, ["SGD"])
    assert {job["seed"] for job in grid} == {0}
    for job in grid:
        store.save(job, {"loss": None if job["options"]["rate"] == 1.0 else abs(job["options"]["rate"] - 0.1)})
    rest = small_task.jobs(["ecoli"], 3, ["SGD"])
    assert [(job["seed"], job["options"]["rate"]) for job in rest] == [(1, 0.1), (2, 0.1)]


def test_the_grid_of_a_thrifty_family_is_run_on_seed_0_alone(small_task, monkeypatch):
    monkeypatch.setattr(small_task, "version_of", lambda family: "1")  # its package need not be installed
    grid = small_task.jobs(["ecoli"], 3, ["Muon"])
    assert [job["seed"] for job in grid] == [0] * len(small_task.grids()["Muon"])


def test_the_metric_is_that_of_the_shapes():
    structure, shapes = module("tune.stochastic").structure, [(3, 4), (4,)]
    assert structure({}, shapes) == {}
    assert structure({"blocks": True}, shapes) == {"blocks": shapes}
    assert len(structure({"metric": {"floor": 0.1}}, shapes)["metric"](np.ones(16)).blocks) == 2
    assert len(structure({"metric": "diagonal"}, shapes)["metric"](np.ones(16)).blocks) == 1


def test_accuracy_at_equal_loss_is_interpolated_where_the_loss_first_falls_to_it():
    accuracy_at = module("tune.report_metric").accuracy_at
    run = {"curve": [[0, 1.0, 0.2], [1, 0.1, 0.6], [2, 0.01, 0.8], [3, 0.1, 0.9]]}
    assert accuracy_at(run, 0.1) == pytest.approx(0.6)
    assert accuracy_at(run, 0.1**1.5) == pytest.approx(0.7)
    assert math.isnan(accuracy_at(run, 0.001))
    assert math.isnan(accuracy_at({"curve": [[0, 1.0], [1, 0.1]]}, 0.1))


def test_the_level_of_equal_loss_is_one_that_all_runs_reach():
    report, metric = module("tune.report"), module("tune.report_metric")
    curves = ([[0, 1.0, 0.2], [1, 0.1, 0.5], [2, 0.2, 0.6]], [[0, 1.0, 0.2], [1, 0.3, 0.5], [2, 0.01, 0.7]])
    rows = {str(i): report.Best({}, [{"curve": curve}], "1") for i, curve in enumerate(curves)}
    assert metric.level(rows) == 0.1


def test_first_order_methods_at_their_own_batch_meet_the_default_at_its_own():
    report = module("tune.report")
    found = {
        "mnist": {"mblsr1 default": report.Best({}, [run(1.0)], "1")},
        "mnist 64 long": {"SGD": report.Best({"rate": 0.1}, [{**run(2.0), "steps": 200}], "1")},
    }
    assert "| SGD | 3 | rate 0.1 | 2 ± 0 | 0.5000 ± 0 | 0.50 | 200 | 20.0 |" in report.own_batches(found)
    assert list(report.at_equal_batch(found)) == ["mnist"]


def test_batch_norm_leaves_nothing_behind_and_the_gradient_is_that_of_the_loss():
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 3, 8, 8)), rng.integers(0, 10, 8)
    network = module("tune.networks").ResNet20(X)
    w = network.start(rng).astype(float)
    f, g = network.loss_and_gradient(w, (X, y))
    v = rng.standard_normal(w.size) / 100
    h = 1e-5
    slope = (network.loss_and_gradient(w + h * v, (X, y))[0] - network.loss_and_gradient(w - h * v, (X, y))[0]) / (
        2 * h
    )
    assert g @ v == pytest.approx(slope, rel=1e-3)
    assert network.loss_and_gradient(w, (X, y))[0] == f
    assert network.loss(w, X, y) == pytest.approx(f, abs=0.2)
    assert network.loss(w, X[:3], y[:3]) == pytest.approx(
        network.loss(w, X[:3], y[:3], chunk=1), rel=1e-6
    )  # no sample sees another one


def test_a_rate_at_the_end_of_its_grid_and_a_choice_by_one_seed_are_marked():
    report = module("tune.report")

    def text(family, options, complete=True):
        return report.described(family, report.Best(options, [], "1", complete))

    assert text("SGD", {"rate": 1.0, "momentum": 0.9}) == "rate 1, momentum 0.9*"
    assert text("SGD", {"rate": 0.1, "momentum": 0.9}, complete=False) == "rate 0.1, momentum 0.9†"
    assert text("mblsr1 default", {}) == "-"


def test_selection_and_reporting_sets_are_apart():
    tasks = module("tune.tasks")
    assert not set(tasks.SELECTION_SETS) & set(tasks.REPORTING_SETS)
    roles = {t.data: t.role for t in tasks.TASKS.values()}
    assert {name for name, role in roles.items() if role == "reporting"} == {*tasks.REPORTING_SETS, "resnet20"}


def test_only_takes_names_and_roles():
    main, tasks = module("tune.__main__"), module("tune.tasks")
    known = list(tasks.TASKS)
    assert main._chosen(known, ["oil", "ecoli"]) == ["ecoli", "oil"]
    assert set(main._chosen(known, ["reporting"])) == {*tasks.REPORTING_SETS, "resnet20"}
    assert main._chosen(known, None) == known
    with pytest.raises(SystemExit, match="unknown: nothing"):
        main._chosen(known, ["nothing"])


def test_a_missing_file_is_named_and_how_to_set_the_folder(monkeypatch, tmp_path):
    data = module("data")
    monkeypatch.delenv(data.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "imblearn", None)  # nothing is downloaded
    monkeypatch.setitem(sys.modules, "imblearn.datasets", None)
    with pytest.raises(FileNotFoundError, match=r"oil\.npz.*MBLSR1_DATA"):
        data.load("oil")
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"oil\.npz.*MBLSR1_DATA"):
        data.load("oil")


def test_the_page_shows_the_rows_that_are_kept():
    report = module("micro.report")
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.filled(page) == page
    assert "not measured" not in page.lower()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_solves_of_the_subproblem_agree(dtype):
    found = module("micro.subproblem").measure(dtype, 2_000, 5)
    assert found["difference"] < (1e-9 if dtype == "float64" else 1e-4)
    subproblem, kernels = module("micro.subproblem"), module("micro.kernels")
    memory, (g, *_) = kernels.full_memory("numpy", "float64", 2_000, 5)
    p = subproblem.by_gram(memory, g)
    assert np.linalg.norm(p) == pytest.approx(subproblem.RADIUS)
    np.testing.assert_allclose(subproblem.by_r(memory, g), p, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mode", ["samples", "new batches", "paper"])
def test_usual_steps_project_once_and_combine_once(mode):
    found = module("micro.steps").measure(mode, "numpy", "float64", 2_000, 4)
    assert found["usual"] > 0
    parts = [found[name] for name in module("micro.steps").PARTS]
    assert found["passes"] == pytest.approx(sum(parts) + found["rest"])


def test_the_functions_of_the_package_are_back_after_a_measurement():
    from mblsr1 import _array

    before = _array.combine, _array.inner_products
    module("micro.steps").measure("samples", "numpy", "float64", 100, 2)
    assert (_array.combine, _array.inner_products) == before


def test_a_row_is_replaced_by_its_case_and_kept_otherwise(tmp_path, monkeypatch):
    store = module("micro.store")
    monkeypatch.setattr(store, "blas", lambda: "none")
    store.save(
        "part", [{"case": {"d": 10}, "found": {"ms": 1.0}}, {"case": {"d": 2}, "found": {"ms": 2.0}}], 0, tmp_path
    )
    store.save("part", [{"case": {"d": 10}, "found": {"ms": 3.0}}], 0, tmp_path)
    rows = store.load("part", tmp_path)["rows"]
    assert [(r["case"]["d"], r["found"]["ms"]) for r in rows] == [(2, 2.0), (10, 3.0)]
    monkeypatch.setattr(store, "blas", lambda: "another")
    store.save("part", [{"case": {"d": 10}, "found": {"ms": 4.0}}], 0, tmp_path)
    assert len(store.load("part", tmp_path)["rows"]) == 1


def test_a_pass_reads_as_many_bytes_as_the_buffer():
    unit = module("micro.timing").Pass(1 << 20, "float32")
    assert unit.x.nbytes + unit.y.nbytes == 1 << 20
    assert unit.factor == 1.0
    assert module("micro.timing").Pass(1 << 31, "float64").factor == 4.0


def test_a_target_tells_how_many_rows_reach_it():
    line = module("micro.report")._line
    assert line("x", "<= 2", [1.0, 3.0]) == ["x", "<= 2", "1", "3", "1 of 2"]
    assert line("x", ">= 2", []) == ["x", ">= 2", "-", "-", "not measured"]


def test_an_axis_of_less_than_a_decade_has_plain_numbers():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    pictures = module("tune.pictures")
    for limits, labels in (
        ((0.85, 2.4), ["1", "1.2", "1.5", "2"]),
        ((0.0085, 0.024), ["0.01", "0.012", "0.015", "0.02"]),
    ):
        figure, axis = pyplot.subplots()
        axis.set(yscale="log", ylim=limits)
        pictures._plain_ticks(axis)
        assert [tick.get_text() for tick in axis.get_yticklabels()] == labels
        assert not axis.yaxis.get_minorticklocs().size
        pyplot.close(figure)


def test_no_point_of_the_ratios_hides_another(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    pictures = module("tune.pictures")
    families = [name for name in module("tune.stochastic").grids() if name in pictures.COLORS]
    assert set(families) == set(pictures.COLORS)
    monkeypatch.setattr(pictures, "against", lambda row, family: 1.0 if family in families else math.nan)
    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    pictures.ratios({"ecoli": {}}, tmp_path / "ratios.png")
    points = {c.get_label(): c for c in pyplot.gcf().axes[0].collections}
    monkeypatch.undo()
    pyplot.close("all")
    assert list(points) == families
    large = {pictures.OURS, pictures.BLOCKS}
    assert all(len(points[name].get_facecolors()) == 0 for name in large)
    assert min(points[n].get_zorder() for n in families if n not in large) > max(points[n].get_zorder() for n in large)

"""The paper's experiments: data, small runs of each kind, tables and verdicts."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest


def module(name):
    return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def figure1(monkeypatch, tmp_path):
    """Figure 1 on 60 random rows, three classes of margin apart, in a store of its own."""
    f, r = module("experiments.figure1"), module("experiments.report_figure1")
    rng = np.random.default_rng(0)
    y = (np.arange(60) % 6 == 0).astype(np.int64)
    X = rng.standard_normal((60, 3)) + y[:, None]
    split = module("data").Split(X, y, X, y)
    monkeypatch.setattr(f, "task", lambda name: (module("tune.networks").Perceptron(3, 4, 2), split))
    monkeypatch.setattr(f, "STORE", module("store").Store("figure1", tmp_path))
    monkeypatch.setattr(r, "STORE", f.STORE)
    monkeypatch.setitem(f.BUDGETS, "small", f.Budget(4, 20, 1_000, 1))
    return f


def test_there_are_27_sets_and_one_of_them_in_part():
    f, table = module("experiments.figure1"), module("imbalanced")
    assert len(f.SETS) == len(set(f.SETS)) == 27
    assert set(table.TABLE) - set(f.SETS) == {"isolet"}
    assert set(f.SETS) - set(table.TABLE) == {"isolet_partial"}


def test_a_set_is_checked_against_the_table():
    checked = module("imbalanced").checked
    X, y = np.zeros((336, 7)), np.where(np.arange(336) < 35, 1, -1)
    checked("ecoli", X, y)
    with pytest.raises(ValueError, match=r"ecoli: must be 336 x 7, got \(336, 6\)"):
        checked("ecoli", X[:, 1:], y)
    with pytest.raises(ValueError, match="ecoli: must have 35 rows of the minority, got 301"):
        checked("ecoli", X, -y)
    with pytest.raises(ValueError, match="ecoli: labels must be -1 and"):
        checked("ecoli", X, y > 0)


def test_a_set_is_read_by_name_split_and_standardised(monkeypatch, tmp_path):
    data, rng = module("data"), np.random.default_rng(0)
    y = np.where(np.arange(336) < 35, 1, -1).astype(np.int8)
    np.savez(tmp_path / "ecoli.npz", X=rng.standard_normal((336, 7)), y=y)
    np.savez(tmp_path / "oil.npz", X=np.zeros((3, 2)), y=y[:3])
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    split = data.imbalanced("ecoli")
    assert (len(split.y), len(split.y_test), split.y.sum() + split.y_test.sum()) == (268, 68, 35)
    np.testing.assert_allclose(split.X.mean(axis=0), 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="oil: must be 937 x 49"):
        data.imbalanced("oil")
    with pytest.raises(FileNotFoundError, match=r"scene\.npz"):
        data.imbalanced("scene")
    with pytest.raises(ValueError, match="nothing: not an imbalanced set; known: ecoli"):
        data.imbalanced("nothing")


def test_the_ordinary_downloaders_give_the_arrays_of_the_files(monkeypatch, tmp_path):
    download = module("download")
    bunch = SimpleNamespace(data=[[1.0, 2.0], [3.0, 4.0]], target=[-1, 1])
    fetched = SimpleNamespace(fetch_datasets=lambda filter_data: {filter_data[0]: bunch})
    monkeypatch.setitem(sys.modules, "imblearn", SimpleNamespace(datasets=fetched))
    monkeypatch.setitem(sys.modules, "imblearn.datasets", fetched)
    found = download.fetch("ecoli", tmp_path)
    np.testing.assert_array_equal(found["X"], [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(found["y"], [-1, 1])

    def images(root, train, download):
        n = 3 if train else 2
        return SimpleNamespace(data=np.full((n, 28, 28), 7), targets=list(range(n)))

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(MNIST=images)))
    found = download.fetch("mnist", tmp_path)
    assert {k: (v.shape, v.dtype.name) for k, v in found.items()} == {
        "x_train": ((3, 28, 28), "uint8"), "y_train": ((3,), "int64"),
        "x_test": ((2, 28, 28), "uint8"), "y_test": ((2,), "int64"),
    }  # fmt: skip


def test_openml_has_the_training_images_first(monkeypatch, tmp_path):
    n = 60_002
    pixels = np.zeros((n, 784), dtype=np.uint8)
    pixels[60_000:] = 9
    bunch = SimpleNamespace(data=pixels, target=np.array(["1"] * 60_000 + ["5", "6"], dtype=object))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    fetched = SimpleNamespace(fetch_openml=lambda *a, **k: bunch)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fetched)
    found = module("download").fetch("mnist", tmp_path)
    assert found["x_train"].shape == (60_000, 28, 28)
    assert found["x_train"].max() == 0
    assert found["x_test"].min() == 9
    np.testing.assert_array_equal(found["y_test"], [5, 6])


def test_without_a_folder_and_a_downloader_the_error_names_both(monkeypatch):
    data = module("data")
    monkeypatch.delenv(data.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "imblearn", None)
    monkeypatch.setitem(sys.modules, "imblearn.datasets", None)
    with pytest.raises(FileNotFoundError, match=r"oil\.npz.*MBLSR1_DATA.*install imblearn"):
        data.load("oil")
    with pytest.raises(FileNotFoundError, match=r"isolet_partial\.npz.*MBLSR1_DATA"):
        data.load("isolet_partial")


def test_the_measures_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    f, rng = module("experiments.figure1"), np.random.default_rng(1)
    y = (rng.random(200) < 0.2).astype(int)
    scores = np.stack([np.zeros(200), np.round(rng.standard_normal(200) + y - 0.5, 1)], axis=1)  # with equal margins
    found = f.measures(scores, y)
    said = scores.argmax(axis=1)
    wanted = {
        "accuracy": metrics.accuracy_score(y, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, said),
        "average_precision": metrics.average_precision_score(y, scores[:, 1] - scores[:, 0]),
    }
    assert found == {name: pytest.approx(value, abs=1e-6) for name, value in wanted.items()}


def test_scores_that_are_not_finite_count_as_no_answer():
    f, y = module("experiments.figure1"), np.array([0, 0, 0, 1])
    found = f.measures(np.array([[0.0, np.nan]] * 4), y)
    assert found == {"accuracy": 0.75, "balanced_accuracy": 0.5, "average_precision": 0.25}


def test_the_grid_is_that_of_the_paper_and_larger_rates():
    f = module("experiments.figure1")
    paper = {(s["rate"], s["momentum"]) for s in f.grid() if s["rate"] in f.PAPER_RATES}
    assert paper == {(r, m) for r in (0.01, 0.001, 0.0001) for m in (0.9, 0.95, 0.99)}
    assert max(s["rate"] for s in f.grid()) == 1.0


def test_sizes_and_costs():
    f = module("experiments.figure1")
    assert [f.size(b, 800) for b in f.BATCHES] == [16, 32, 64, 128, 80, 100, 200]
    assert f.size("128", 100) == 100
    budget = f.Budget(30, 1_000, 150_000, 4)
    assert f.cost(budget, 268, 67) == 30 * 268
    assert f.cost(budget, 20_000, 16) == 16_000
    assert f.cost(budget, 20_000, 5_000) == 150_000
    assert f.cost(budget, 100_000, 25_000) == 400_000


def test_a_cell_is_run_stored_and_not_made_again(figure1):
    jobs = figure1.jobs("small", ["ecoli"])
    assert [job["batch"] for job in jobs] == list(figure1.BATCHES)
    figure1.work(jobs[4])
    result = figure1.STORE.records()[0]["result"]
    assert (result["batch"], result["cost"]) == (6, 120)
    assert all(len(result[name]) == 5 for name in ("default", "paper"))
    counts = [len(row["runs"]) for row in result["sgd"]]
    assert len(counts) == 18
    assert set(counts) == {1, 5}
    assert all(run["cost"] <= 120 for row in result["sgd"] for run in row["runs"])
    assert figure1.jobs("small", ["ecoli"]) == [*jobs[:4], *jobs[5:]]


def test_the_best_setting_is_that_of_the_measure_and_of_equal_ones_the_smallest_loss():
    f = module("experiments.figure1")

    def row(rate, accuracy, loss):
        return {"rate": rate, "runs": [{"accuracy": accuracy, "loss": loss}]}

    rows = [row(0.01, 0.9, 0.5), row(0.001, 0.9, 0.2), row(0.0001, 0.9, None), row(1.0, 0.95, None)]
    assert f.best(rows, f.PAPER_RATES, "accuracy") == 1
    assert f.best(rows, (*f.PAPER_RATES, 1.0), "accuracy") == 3


def test_an_unknown_set_is_named():
    with pytest.raises(SystemExit, match="unknown: nothing; known: ecoli"):
        module("experiments.figure1").jobs("small", ["nothing"])


def runs(*values):
    return [dict.fromkeys(("accuracy", "balanced_accuracy", "average_precision"), v) for v in values]


def cell(ours, paper, *sgd):
    return {"default": runs(*ours), "paper": runs(*paper), "sgd": [{"rate": r, "runs": runs(*v)} for r, v in sgd]}


def test_the_gap_is_to_the_best_mean_of_the_grid_with_all_seeds():
    r = module("experiments.report_figure1")
    found = cell([0.9, 0.8], [0.5, 0.5], (0.01, [0.7, 0.7]), (0.1, [0.85, 0.85]), (0.001, [0.99]))
    assert r.tuned(found, r.GRIDS["Table 2's grid"], "accuracy") == [0.7, 0.7]
    gap = r.gap(found, "default", r.GRIDS["wide grid"], "accuracy")
    assert gap.mean == pytest.approx(0.0)
    assert gap.half == pytest.approx(12.706 * 0.05, rel=1e-4)  # t, one degree of freedom; deviation .0707 / sqrt(2)
    assert gap.sign == 0
    assert r.gap(found, "paper", r.GRIDS["Table 2's grid"], "accuracy").sign == -1


def test_verdicts_follow_the_data():
    r = module("experiments.report_figure1")
    good = {("ecoli", str(b)): cell([0.9, 0.9], [0.6, 0.6], (0.01, [0.8, 0.8])) for b in (16, 32, 64, 128, "N/10")}
    assert r.competitive(good, "default").holds == r.better(good, "default", "accuracy").holds == "yes"
    assert r.competitive(good, "paper").holds == r.better(good, "paper", "accuracy").holds == "no"
    near = {("ecoli", "16"): cell([0.795, 0.795], [0.6, 0.6], (0.01, [0.8, 0.8]))}
    assert r.competitive(near, "default").holds == "yes"
    assert r.better(good, "default", "accuracy", ("N/4",)).holds == "no"  # there is no such cell
    assert r.better(near, "default", "accuracy").holds == "no"


def test_more_cells_above_than_below_are_significant_from_a_sign_test_on():
    outnumbers = module("experiments.report_figure1").outnumbers
    assert not outnumbers(4, 0)
    assert outnumbers(5, 0)  # 1/32
    assert not outnumbers(22, 21)
    assert outnumbers(30, 15)
    assert not outnumbers(0, 0)


def test_the_page_and_its_pictures_are_written_from_the_runs(figure1, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    figure1.work(figure1.jobs("small", ["ecoli"])[0])
    report = module("experiments.report")
    monkeypatch.setattr(report, "PARTS", ("figure1",))
    monkeypatch.setattr(module("experiments.report_figure1"), "MEASURES", ("accuracy",))
    report.write(tmp_path / "page.md", tmp_path / "pictures")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "1 of 189 cells" in text
    assert {p.suffix for p in (tmp_path / "pictures").iterdir()} == {".png", ".svg"}
    assert {p.stem for p in (tmp_path / "pictures").iterdir()} == {
        "figure1_accuracy_default", "figure1_accuracy_paper",
    }  # fmt: skip
    assert "![Accuracy, MB-LSR1 (paper) minus the best tuned SGD: 27 sets, at most 4 N" in text
    assert "(ecoli: 8.6 rows of the majority" in text
    assert len(json.loads((tmp_path / "figure1.json").read_text())) == 1


def losses(*values):
    return [{"loss": v, "accuracy": 0.9} for v in values]


def test_the_effect_of_an_element_is_a_geometric_mean_over_tasks_with_its_interval():
    r = module("experiments.report_ablation")
    found = {
        "a": {"base": losses(0.1, 0.1), "off": losses(0.2, 0.2)},
        "b": {"base": losses(0.1, 0.4), "off": losses(0.8, 0.8)},
    }
    e = r.effect(found, "base", "off")
    assert e.ratios == {"a": pytest.approx(2.0), "b": pytest.approx(4.0)}
    assert e.mean == pytest.approx(8.0**0.5)
    assert e.high / e.mean == pytest.approx(np.exp(12.7062 * np.log(2.0) / 2.0), rel=1e-4)
    assert e.verdict == "not shown"
    sure = {t: {"base": losses(0.1), "off": losses(v)} for t, v in (("a", 0.2), ("b", 0.21), ("c", 0.19))}
    assert r.effect(sure, "base", "off").verdict == "yes"
    assert r.effect(sure, "off", "base").verdict == "no"


def test_a_variant_that_did_not_stay_finite_is_shown_and_left_out_of_the_mean():
    r = module("experiments.report_ablation")
    found = {t: {"base": losses(0.1), "off": losses(v)} for t, v in (("a", None), ("b", 0.2), ("c", 0.2))}
    e = r.effect(found, "base", "off")
    assert e.ratios["a"] == np.inf
    assert e.mean == pytest.approx(2.0)


def test_each_variant_of_the_ablation_changes_one_thing_and_is_told():
    a, r = module("experiments.ablation"), module("experiments.report_ablation")
    assert [len(changes) for changes in (*a.PAPER.values(), *a.DEFAULT.values())].count(0) == 2
    assert all(len(changes) <= 1 for changes in (*a.PAPER.values(), *a.DEFAULT.values()))
    assert list(a.variants("paper")) == ["paper", *r.REMEDIES]
    assert list(a.variants("default")) == ["default", *r.OFF]
    assert a.variants("paper")["no restart"].restart_memory is None
    assert a.variants("paper")["no progressive radius"].ratio_memory == 0.0
    assert a.variants("paper")["check on the whole set"].check_size == "all"


def test_the_ablation_is_run_stored_and_drawn(figure1, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    a, r = module("experiments.ablation"), module("experiments.report_ablation")
    monkeypatch.setattr(a, "STORE", module("store").Store("ablation", tmp_path))
    monkeypatch.setattr(r, "STORE", a.STORE)
    monkeypatch.setattr(a, "task", figure1.task)
    monkeypatch.setattr(a, "SEEDS", (0,))
    monkeypatch.setitem(a.BUDGETS, "small", figure1.Budget(4, 20, 1_000, 1))
    jobs = a.jobs("small", ["spectrometer"])
    assert [(job["batch"], job["preset"]) for job in jobs] == [
        ("64", "paper"), ("64", "default"), ("N/8", "paper"), ("N/8", "default"),
    ]  # fmt: skip
    for job in jobs[2:]:
        a.work(job)
    assert a.jobs("small", ["spectrometer"]) == jobs[:2]
    assert {len(runs) for runs in r.runs("paper")["spectrometer, batch N/8"].values()} == {1}
    assert len(r.claims()) == 4
    assert "| 16 pairs |" in r.section()
    r.pictures(tmp_path)
    assert (tmp_path / "ablation.svg").is_file()


def test_the_page_is_what_the_report_writes_from_the_committed_runs():
    report = module("experiments.report")
    with report.packed_alone():
        assert report.text() == report.PAGE.read_text(encoding="utf-8")


def test_a_command_asks_until_nothing_is_missing_and_says_what_failed(monkeypatch):
    main, asked = module("experiments.__main__"), []
    rounds = [["a"], ["b"], []]
    part = SimpleNamespace(jobs=lambda scale, only: rounds.pop(0), work=None)
    monkeypatch.setattr(main, "run_all", lambda work, jobs, **k: asked.append(jobs) or [])
    args = SimpleNamespace(part="x", scale="small", only=None, processes=1, minutes=float("inf"))
    assert main.run(part, args) == 0
    assert asked == [["a"], ["b"]]
    rounds.append(["c"])
    monkeypatch.setattr(main, "run_all", lambda work, jobs, **k: ["c: error"])
    assert main.run(part, args) == 1

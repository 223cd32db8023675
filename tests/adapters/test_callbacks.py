"""`mblsr1.callbacks`: what was written is read back with the csv module and with TensorBoard's own reader."""

from __future__ import annotations

import csv
import math
import warnings

import numpy as np
import pytest
from problems import logistic

import mblsr1
from mblsr1.callbacks import compose, tensorboard

PROBLEM = logistic()


def run(**how):
    settings = {"rng": 0, "batch_size": 16, "memory": 4, "max_steps": 10, **how}
    return mblsr1.minimize(PROBLEM.fun, PROBLEM.grad, PROBLEM.w0, mblsr1.ArraySampler(*PROBLEM.data), **settings)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(row, history, i):
    """The row holds the numbers of the history, bit for bit."""
    assert set(row) == set(history)
    for name, text in row.items():
        assert float(text) == history[name][i] or (math.isnan(float(text)) and math.isnan(history[name][i])), name


# CSV


def test_a_row_for_each_step(tmp_path):
    path = tmp_path / "run.csv"
    with mblsr1.callbacks.csv(path) as log:
        result = run(callback=log)
    found = rows(path)
    assert len(found) == result.nit == 10
    for i, row in enumerate(found):
        same(row, result.history, i)
    assert list(tmp_path.iterdir()) == [path]


def test_rows_are_there_while_the_run_goes_on(tmp_path):
    path, seen = tmp_path / "run.csv", []
    with mblsr1.callbacks.csv(path) as log:
        run(callback=compose(log, lambda step: seen.append(len(rows(path)))))
    assert seen == list(range(1, 11))


def test_a_continued_run_goes_on_in_the_file(tmp_path):
    """The state is of step 4, the file of a run that was killed in the middle of a row of step 8."""
    path, straight = tmp_path / "run.csv", run()
    saved = run(max_steps=4)
    with mblsr1.callbacks.csv(path) as log:
        run(max_steps=7, callback=log)
    with open(path, "a", encoding="utf-8") as file:
        file.write("8,0.5")
    with mblsr1.callbacks.csv(path, append=True) as log:
        run(max_steps=6, state=saved.state, callback=log)
    assert [row["step"] for row in rows(path)] == [str(k) for k in range(1, 11)]
    for i, row in enumerate(rows(path)):
        same(row, straight.history, i)


@pytest.mark.parametrize("append", [False, True])
def test_a_new_run(tmp_path, append):
    """Without `append` the file is written anew; with it, steps that are made again replace the earlier ones."""
    path = tmp_path / "run.csv"
    for rng in (0, 1):
        with mblsr1.callbacks.csv(path, append=append) as log:
            result = run(rng=rng, max_steps=5, callback=log)
    assert len(rows(path)) == 5
    same(rows(path)[-1], result.history, 4)


@pytest.mark.parametrize("content", ["", "step,loss\n1,2\n"])
def test_a_file_of_other_columns(tmp_path, content):
    path = tmp_path / "run.csv"
    path.write_text(content)
    with mblsr1.callbacks.csv(path, append=True) as log:
        if content:
            with pytest.raises(
                ValueError, match=r"append: .*has the columns step, loss; this run step, loss, loss_after"
            ):
                run(callback=log)
            assert path.read_text() == content
        else:
            run(callback=log)
            assert len(rows(path)) == 10


@pytest.mark.parametrize("content", [b"\xff\xfe", "step"])
def test_a_file_that_is_not_of_a_run(tmp_path, content):
    path = tmp_path / "run.csv"
    if content == "step":
        with mblsr1.callbacks.csv(path) as log:
            run(callback=log, max_steps=2)
        content = path.read_bytes().replace(b"\n2,", b"\ntwo,")
    path.write_bytes(content)
    with (
        mblsr1.callbacks.csv(path, append=True) as log,
        pytest.raises(ValueError, match=r"append: .*run\.csv is no file of mblsr1\.callbacks\.csv: "),
    ):
        run(callback=log)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_callback_is_of_one_run(tmp_path):
    path = tmp_path / "run.csv"
    with mblsr1.callbacks.csv(path) as log:
        first = run(callback=log, max_steps=3)
        with pytest.raises(ValueError, match=r"run\.csv is of another run, step 1 does not follow step 3"):
            run(callback=log)
        with pytest.raises(ValueError, match=r"run\.csv is of another run, its columns are those of another method"):
            mblsr1.minimize(
                PROBLEM.fun, PROBLEM.grad, PROBLEM.w0, mblsr1.ArraySampler(*PROBLEM.data), callback=log,
                method=mblsr1.s_lsr1(4), max_steps=10,
            )  # fmt: skip
        run(callback=log, state=first.state, max_steps=2)
    assert [row["step"] for row in rows(path)] == list("12345")


def test_some_of_the_steps(tmp_path):
    with mblsr1.callbacks.csv(tmp_path / "run.csv") as log:
        run(callback=lambda step: log(step) if step.step % 4 == 1 else None)
    assert [row["step"] for row in rows(tmp_path / "run.csv")] == ["1", "5", "9"]


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("missing/run.csv", ValueError, "path: must be a file in a folder that exists, got .*run.csv"),
        ("", ValueError, "path: must be a file in a folder that exists"),
        (None, TypeError, "path: must be the path of a file, got None"),
        (3, TypeError, "path: must be the path of a file, got 3"),
    ],
)
def test_paths_that_are_refused(tmp_path, path, error, text):
    with pytest.raises(error, match=text):
        mblsr1.callbacks.csv(tmp_path / path if isinstance(path, str) else path)
    assert list(tmp_path.iterdir()) == []


def test_closed_is_closed(tmp_path):
    logs = mblsr1.callbacks.csv(tmp_path / "run.csv"), tensorboard(Writer())
    for log in logs:
        log.close()
        with pytest.raises(ValueError, match="is closed"):
            run(callback=log)
    assert not (tmp_path / "run.csv").exists()


# TensorBoard


class Writer:
    """A writer of the user, which keeps what it is sent."""

    def __init__(self):
        self.sent, self.flushed, self.closed = [], 0, False

    def add_scalar(self, name, value, step):
        self.sent.append((name, value, step))

    def flush(self):
        self.flushed += 1

    def close(self):
        self.closed = True


def events(folder):
    """{name: [(step, value)]} as TensorBoard reads the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        reader = EventAccumulator(str(folder))
        reader.Reload()
        return {name: [(e.step, e.value) for e in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


@pytest.fixture(params=[pytest.param("torch", marks=pytest.mark.torch), "tensorboardX"])
def library(request, monkeypatch):
    """The writer of one of the two libraries; both are read back by TensorBoard."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, where they are imported
        if request.param == "torch":
            import torch.utils.tensorboard  # noqa: F401
        else:
            import tensorboardX

            monkeypatch.setattr("mblsr1.callbacks._summary_writer", lambda: tensorboardX.SummaryWriter)
        yield request.param


def test_tensorboard_reads_what_was_sent(tmp_path, library):
    with tensorboard(tmp_path, prefix="run/") as log:
        result = run(callback=log)
    found = events(tmp_path)
    for name, column in result.history.items():
        finite = [(i + 1, np.float32(value)) for i, value in enumerate(column) if math.isfinite(value)]
        if name != "step":
            assert found.get(f"run/{name}", []) == finite, name
    assert {"run/loss", "run/radius", "run/rho", "run/batch_size"} <= set(found)


def test_steps_made_again_replace_the_earlier_ones(tmp_path, library):
    saved, straight = run(max_steps=4), run()
    with tensorboard(tmp_path) as log:
        run(max_steps=7, rng=5, callback=log)
    with tensorboard(tmp_path) as log:
        run(max_steps=6, state=saved.state, callback=log)
    loss = events(tmp_path)["loss"]
    assert [step for step, _ in loss] == list(range(1, 11))
    assert [value for _, value in loss][4:] == [np.float32(value) for value in straight.history["loss"][4:]]


def test_a_writer_of_the_user_stays_open():
    writer = Writer()
    with tensorboard(writer, every=4) as log:
        result = run(callback=log)
    assert not writer.closed
    assert sorted({step for _, _, step in writer.sent}) == [1, 5, 9]
    assert writer.flushed == 3
    assert [v for name, v, _ in writer.sent if name == "loss"] == result.history["loss"][::4]
    assert all(math.isfinite(value) for _, value, _ in writer.sent)


# Several


def stop(step):
    raise StopIteration


def test_all_see_the_step_at_which_one_stops():
    seen = []
    for asks in (stop, lambda step: True, lambda step: np.bool_(True)):
        result = run(callback=compose(lambda step: seen.append(step.step), asks, lambda step: seen.append(step.step)))
        assert (result.status, result.nit) == (3, 1)
    assert seen == [1, 1] * 3
    assert run(callback=compose(), max_steps=2).nit == 2


def test_all_are_closed_even_where_the_run_raises(tmp_path):
    first, second = mblsr1.callbacks.csv(tmp_path / "a.csv"), mblsr1.callbacks.csv(tmp_path / "b.csv")

    def fail(step):
        raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"), compose(first, second, fail) as log:
        run(callback=log)
    for log in (first, second):
        with pytest.raises(ValueError, match="is closed"):
            run(callback=log)
    assert len(rows(tmp_path / "b.csv")) == 1


class Member:
    """A context manager that writes down what happens to it."""

    def __init__(self, name, seen, fails=False):
        self.name, self.seen, self.fails = name, seen, fails

    def __call__(self, step):
        self.seen.append((self.name, step))

    def __enter__(self):
        if self.fails:
            raise OSError(self.name)
        self.seen.append((self.name, "enter"))
        return self

    def __exit__(self, kind, error, trace):
        self.seen.append((self.name, kind))
        return kind is KeyError


def test_members_are_entered_and_left_as_in_a_stack_of_with_blocks():
    seen = []
    a, b = Member("a", seen), Member("b", seen)
    with pytest.raises(RuntimeError), compose(a, print, b):
        raise RuntimeError
    assert seen == [("a", "enter"), ("b", "enter"), ("b", RuntimeError), ("a", RuntimeError)]
    seen.clear()
    with compose(a, b):
        raise KeyError  # b swallows it
    assert seen[2:] == [("b", KeyError), ("a", None)]
    seen.clear()
    with pytest.raises(OSError, match="c"), compose(a, Member("c", seen, fails=True), b):
        pytest.fail("the block is not entered")
    assert seen == [("a", "enter"), ("a", OSError)]
    seen.clear()
    compose(a, b).close()
    assert seen == []


def test_close_without_a_block(tmp_path):
    log = mblsr1.callbacks.csv(tmp_path / "run.csv")
    both = compose(compose(log), print)
    both.close()
    with pytest.raises(ValueError, match="is closed"):
        run(callback=log)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mblsr1.callbacks.csv("a.csv", append=1), "append: must be True or False, got 1"),
        (lambda: tensorboard(3), "writer: must be a path or have add_scalar"),
        (lambda: tensorboard("runs", every=0.5), "every: must be an int >= 1"),
        (lambda: tensorboard("runs", prefix=None), "prefix: must be a str"),
        (lambda: compose(print, None), r"callbacks: must be callables callback\(step\), got NoneType"),
    ],
)
def test_arguments_that_are_refused(make, text):
    with pytest.raises(TypeError, match=text):
        make()


def test_what_to_install_is_said(monkeypatch, tmp_path):
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'mblsr1\[watch\]'"):
        run(callback=tensorboard(tmp_path))

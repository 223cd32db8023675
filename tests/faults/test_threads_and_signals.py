"""Two runs at once are two runs; Ctrl-C ends a loop and leaves a checkpoint from which the run goes on bit for bit."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from killed import environment
from ways import START, WAYS, N, fun, grad

import mblsr1

HERE = Path(__file__).parent


def run(name, start):
    """A run whose functions give the other threads a turn at each call."""
    start.wait()

    def yielding(function):
        def call(w, batch=slice(None)):
            value = function(w, batch)
            sum(range(200))
            return value

        return call

    how = {**WAYS[name], "batch_size": 4, "gtol": 0.0, "max_steps": 60, "rng": 3}
    return mblsr1.minimize(yielding(fun), yielding(grad), START, N, **how)


def shown(result):
    return result.x.tobytes(), {name: [*map(repr, column)] for name, column in result.history.items()}


def test_runs_in_threads_are_what_each_is_alone():
    names = ["default", "blocks", "paper", "default"]
    alone = [shown(run(name, Barrier(1))) for name in names]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(names)) as pool:
            together = Barrier(len(names))
            at_once = list(pool.map(lambda name: shown(run(name, together)), names))
    finally:
        sys.setswitchinterval(interval)
    assert at_once == alone
    assert alone[0] == alone[3]


def test_the_options_of_one_thread_are_not_those_of_another():
    """One Options object and one Method serve many runs: they keep nothing of a run."""
    method, options = mblsr1.adam(0.05), mblsr1.Options(batch_size=4, gtol=0.0)

    def work(seed):
        results = [
            mblsr1.minimize(fun, grad, START, N, rng=seed, max_steps=30, options=options),
            mblsr1.minimize(fun, grad, START, N, rng=seed, max_steps=30, batch_size=4, method=method),
        ]
        return [r.x.tobytes() for r in results]

    alone = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == alone


def test_threads_keep_their_own_treatment_of_floating_point_errors():
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(np.geterr).result()
        steps = pool.submit(mblsr1.iterate, fun, grad, START, N, batch_size=4).result()
        pool.submit(next, steps).result()
        assert pool.submit(np.geterr).result() == before


@pytest.mark.torch
def test_threads_give_back_the_precision_of_torch():
    """It is one setting for all threads: one that left first put back the old one while another still multiplied."""
    torch = pytest.importorskip("torch")
    from mblsr1._array import _full_precision

    x, before = torch.zeros(1), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        first, second = _full_precision(x), _full_precision(x)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "highest"
        second.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of another process")
@pytest.mark.parametrize("where", ["function", "body", "alone", "minimize"])
def test_an_interrupt_ends_cleanly_and_leaves_a_checkpoint(where, tmp_path):
    path = tmp_path / "run.npz"
    command = [sys.executable, str(HERE / "interrupted.py"), str(path), where]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    if where == "alone":
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert "Exception ignored" not in errors
    else:
        assert (out, errors, process.returncode) == ("interrupted cleanly\n", "", 0)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    assert mblsr1.load_state(path).step == 5  # between two steps where it stands; within one the last that was written
    problem = lambda w: float(np.sum(w**4)), lambda w: 4.0 * w**3, np.ones(3)
    whole = mblsr1.minimize(*problem, gtol=0.0, max_steps=12)
    again = mblsr1.minimize(*problem, gtol=0.0, max_steps=12, checkpoint=path)
    assert again.x.tobytes() == whole.x.tobytes()
    assert again.fun == whole.fun


def test_after_an_interrupt_within_a_step_its_state_is_not_given():
    calls = []

    def interrupting(w, batch=None):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return fun(w)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(mblsr1.iterate(interrupting, grad, START))
    with pytest.raises(RuntimeError, match=r"^the run was interrupted in the middle of a step"):
        _ = seen[-1].state

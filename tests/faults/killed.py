"""Kills runs with SIGKILL at random moments and starts them again: ``python killed.py FOLDER KILLS SEED``.

One process that has imported everything forks the runs, so that a run starts within milliseconds. A run writes its
checkpoint after each step; it is started again with the same call until it ends. Prints what was seen, as JSON.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from itertools import pairwise
from pathlib import Path

import numpy as np

import mblsr1

N, D, STEPS = 40, 5, 60
_DATA = np.random.default_rng(3)
A = _DATA.standard_normal((N, D))
B = A @ np.ones(D) + 0.1 * _DATA.standard_normal(N)

WAYS = {
    "default": {"memory": 4, "batch_size": 8},
    "paper": {"options": mblsr1.Options.paper(batch_size=8)},
    "blocks": {"blocks": [(2, 2), 1], "batch_size": 8, "averaging": 0.9},
    "svrg": {"method": mblsr1.svrg(0.01), "batch_size": 8},
}
COUNTS = ("nit", "nfev", "njev", "n_samples", "status", "batch_size", "n_restarts", "n_skipped")


def environment():
    """The environment in which a process uses the package that this one uses."""
    places = [str(Path(mblsr1.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def loss_and_gradient(w, batch):
    r = A[batch] @ w - B[batch]
    return float(r @ r) / len(r) + 0.1 * float(np.cos(w).sum()), 2.0 * (A[batch].T @ r) / len(r) - 0.1 * np.sin(w)


def run(way, seed, **more):
    return mblsr1.minimize(
        loss_and_gradient, True, np.full(D, 0.5), N, rng=seed, max_steps=STEPS, gtol=0.0, **WAYS[way], **more
    )


def bits(result):
    """Everything that a result shows, to the bit, as text."""
    vectors = {name: result[name].tobytes().hex() for name in ("x", "jac", "x_average") if name in result}
    history = {name: [repr(x) for x in column] for name, column in result.history.items()}
    return json.dumps([vectors, repr(result.fun), [repr(result[name]) for name in COUNTS], history])


def child(folder, way, seed):
    """Run in this process, which is to die; leave the result as a file where it does not."""
    result = run(way, seed, checkpoint=folder / "run.npz", checkpoint_every=0)
    part = folder / "part"
    part.write_text(bits(result))
    part.replace(folder / "result")


def killed_at_random(folder, way, seed, moments):
    """Start the run until it ends, killing it at these moments; return how often it was killed, and how far it was."""
    kills, reached = 0, []
    folder.mkdir()
    while not (folder / "result").exists():
        pid = os.fork()
        if pid == 0:
            try:
                child(folder, way, seed)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        moment = next(moments, None)
        if moment is not None:
            time.sleep(moment)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{way}, seed {seed}: the run ended with status {status}")
        kills += os.WIFSIGNALED(status)
        if (folder / "run.npz").exists():
            reached.append(mblsr1.load_state(folder / "run.npz").step)
    return kills, reached


def main(folder, kills, seed):
    random.seed(seed)
    seen = {"kills": 0, "runs": 0, "different": [], "steps_lost": 0, "parts_left": 0}
    while seen["kills"] < kills:
        way, number = list(WAYS)[seen["runs"] % len(WAYS)], seen["runs"]
        place = folder / str(number)
        moments = iter([random.uniform(0.0, 0.06) for _ in range(min(12, kills - seen["kills"]))])
        died, reached = killed_at_random(place, way, number, moments)
        if (place / "result").read_text() != bits(run(way, number)):
            seen["different"].append([way, number])
        seen["kills"] += died
        seen["runs"] += 1
        seen["steps_lost"] += sum(a > b for a, b in pairwise(reached))
        seen["parts_left"] += len(list(place.glob("*.part")))
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

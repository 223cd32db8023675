"""A run that waits to be interrupted: ``python interrupted.py FILE WHERE``, where it tells its process and then sleeps.

WHERE is "function" (in the middle of a step), "body" (in the loop over `iterate`), "alone" (in such a loop, where
nothing catches the interrupt) or "minimize" (in a callback). Prints "waiting", and how it ended.
"""

import signal
import sys
import time

import numpy as np

import mblsr1

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does not inherit
FILE, WHERE = sys.argv[1:]
WAIT_AT = 5  # steps


def wait():
    print("waiting", flush=True)
    time.sleep(60.0)


def fun(w):
    if WHERE == "function" and seen and seen[-1] == WAIT_AT:
        wait()
    return float(np.sum(w**4))


seen: list[int] = []
arguments = {"checkpoint": FILE, "checkpoint_every": 0 if WHERE == "function" else 1000, "gtol": 0.0, "max_steps": 12}
problem = fun, lambda w: 4.0 * w**3, np.ones(3)


def loop():
    for step in mblsr1.iterate(*problem, **arguments):
        seen.append(step.step)
        if WHERE in ("body", "alone") and step.step == WAIT_AT:
            wait()


def callback(step):
    if step.step == WAIT_AT:
        wait()


if WHERE == "alone":
    loop()
try:
    if WHERE == "minimize":
        mblsr1.minimize(*problem, callback=callback, **arguments)
    else:
        loop()
except KeyboardInterrupt:
    print("interrupted cleanly", flush=True)

"""Kill -9 at any moment: the same call, made again, ends as the uninterrupted run does, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def python(*arguments, **more):
    """Run the interpreter of the tests on the package of the tests."""
    import mblsr1

    places = [str(Path(mblsr1.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, **more)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_at_50_random_moments_loses_nothing(tmp_path):
    done = python(HERE / "killed.py", tmp_path, 50, 0, timeout=300)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["kills"] == 50
    assert seen["different"] == []
    assert seen["steps_lost"] == 0  # the file never went back
    assert seen["parts_left"] == 0

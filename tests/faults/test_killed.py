"""Kill -9 at any moment: the same call, made again, ends as the uninterrupted run does, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed import environment

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_at_50_random_moments_loses_nothing(tmp_path):
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path), "50", "0"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["kills"] == 50
    assert seen["different"] == []
    assert seen["steps_lost"] == 0  # the file never went back
    assert seen["parts_left"] == 0

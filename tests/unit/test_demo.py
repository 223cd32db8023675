"""The demonstration, with few passes over the data."""

import re

import numpy as np
import pytest

from mblsr1 import demo


def test_it_trains_four_methods_and_draws_them(tmp_path):
    for name in ("sklearn", "matplotlib", "threadpoolctl"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    lines, picture = [], tmp_path / "picture.png"
    assert demo.run(str(picture), 2.0, 0, lines.append) == 0
    text = "\n".join(lines)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for name, _ in demo.contestants():
        accuracy, loss, cost = re.search(rf"{re.escape(name)} +([\d.]+) +(\S+) +([\d,]+) ", text).groups()
        assert 0.1 < float(accuracy) <= 1.0  # better than a guess among ten digits
        assert float(loss) < np.log(10.0)
        assert int(cost.replace(",", "")) <= 2 * 1347


def test_without_what_it_needs_it_says_so(monkeypatch):
    def missing():
        raise ImportError("no digits")

    lines = []
    monkeypatch.setattr(demo, "digits", missing)
    assert demo.run("never.png", 1.0, 0, lines.append) == 1
    assert 'pip install "mblsr1[demo]"' in lines[0]


def test_the_gradient_of_the_network_is_that_of_its_loss():
    rng = np.random.default_rng(0)
    network = demo.Network(4, 3, 5)
    w, data, step = network.start(rng), (rng.standard_normal((7, 4)), rng.integers(0, 5, 7)), 1e-5
    gradient = network.loss_and_gradient(w, data)[1]
    ends = [[network.loss_and_gradient(w + sign * step * e, data)[0] for sign in (1, -1)] for e in np.eye(w.size)]
    # central differences: step^2 times third derivatives of some 1, and eps / step
    np.testing.assert_allclose([(a - b) / (2 * step) for a, b in ends], gradient, rtol=0, atol=1e-9)

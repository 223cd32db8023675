r"""
Functions on a mesh: the metric
===============================

Two problems on (0, 1), with linear elements on a mesh that is finer towards 0:

*control*
    minimise the integral of :math:`(y - z)^2 / 2 + y^4 / 4 + \alpha u^2 / 2` over u, where :math:`-y'' = u`,
    :math:`y(0) = y(1) = 0`;

*energy*
    minimise the integral of :math:`u'^2 / 2 + 10 u^4 - 100 x u` over u with :math:`u(0) = u(1) = 0`.

In the inner product of L2 the Hessian of the first is :math:`\alpha I` plus a compact operator, in that of H1 the
Hessian of the second is I plus a compact operator, whatever the mesh. The plain inner product of the nodal values is
neither: there the first Hessian is as uneven as the mesh, and the condition number of the second grows with the
square of the number of unknowns. So the metrics are the mass matrix and the stiffness matrix, by their bidiagonal
Cholesky factors, and the number of steps does not depend on the mesh.

``python examples/pde_mesh.py 1000000`` goes up to a million unknowns, in about a minute.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy.linalg import cholesky_banded, solve_banded

import mblsr1

Vector = NDArray[np.float64]

ALPHA = 1e-4
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LARGEST = 100_000
#: Without a metric the energy takes as many steps as there are unknowns.
FEW = (10, 32, 100, 316)
#: Relative to the first gradient, both in the metric.
TOLERANCE = 1e-6
MOST_STEPS = 2000


class Mesh:
    """Linear elements with n inner nodes; what both problems share."""

    def __init__(self, n: int) -> None:
        nodes = np.linspace(0.0, 1.0, n + 2) ** 2
        self.x, self.h = nodes[1:-1], np.diff(nodes)
        self.lumped = 0.5 * (self.h[:-1] + self.h[1:])

    def factorise(self, diagonal: Vector, beside: Vector) -> None:
        """Find the bidiagonal C with CC' = M, from the diagonals of M."""
        self.upper = cholesky_banded(np.vstack([np.append(0.0, beside), diagonal]))
        self.lower = np.vstack([self.upper[1], np.append(self.upper[0, 1:], 0.0)])

    def of_gradient(self, g: Vector) -> Vector:
        """C^-1 g."""
        return solve_banded((1, 0), self.lower, g)

    def to_step(self, x: Vector) -> Vector:
        """C^-T x."""
        return solve_banded((0, 1), self.upper, x)


class Control(Mesh):
    """Loss and gradient by state and adjoint state; the metric is the mass matrix."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.z = np.where(self.x < 0.5, 1.0, -0.5)
        self.diagonal, self.beside = (self.h[:-1] + self.h[1:]) / 3.0, self.h[1:-1] / 6.0
        self.factorise(self.diagonal, self.beside)

    def mass(self, u: Vector) -> Vector:
        """M u."""
        out = self.diagonal * u
        out[:-1] += self.beside * u[1:]
        out[1:] += self.beside * u[:-1]
        return out

    def state(self, load: Vector) -> Vector:
        """Solve -y'' = load: integrate twice, and choose the first slope so that y(1) = 0."""
        fall = self.h * np.append(0.0, np.cumsum(load))
        return np.cumsum(self.h * fall.sum() - fall)[:-1]

    def fun(self, u: Vector) -> tuple[float, Vector]:
        """Loss and gradient."""
        Mu = self.mass(u)
        y = self.state(Mu)
        loss = self.lumped @ (0.5 * (y - self.z) ** 2 + 0.25 * y**4) + 0.5 * ALPHA * (u @ Mu)
        adjoint = self.state(self.lumped * (y - self.z + y**3))
        return float(loss), self.mass(adjoint + ALPHA * u)


class Energy(Mesh):
    """The metric is the stiffness matrix."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.factorise(1.0 / self.h[:-1] + 1.0 / self.h[1:], -1.0 / self.h[1:-1])

    def fun(self, u: Vector) -> tuple[float, Vector]:
        """Loss and gradient."""
        slope = np.diff(u, prepend=0.0, append=0.0) / self.h
        loss = 0.5 * self.h @ slope**2 + self.lumped @ (10.0 * u**4 - 100.0 * self.x * u)
        return float(loss), -np.diff(slope) + self.lumped * (40.0 * u**3 - 100.0 * self.x)


class Row(NamedTuple):
    """What a run took; `steps` is None where `MOST_STEPS` were not enough."""

    n: int
    steps: int | None
    seconds: float
    loss: float


def solve(problem: Mesh, with_metric: bool) -> Row:
    """Minimise until the norm of the gradient in the metric has fallen by `TOLERANCE`.

    `gtol` is the plain norm, which depends on the mesh; so the callback decides.
    """
    n = problem.x.size

    def norm(u: Vector) -> float:
        return float(np.linalg.norm(problem.of_gradient(problem.fun(u)[1])))

    target = TOLERANCE * norm(np.zeros(n))
    metric = mblsr1.metric.fixed(problem.of_gradient, problem.to_step) if with_metric else None
    start = time.perf_counter()
    result = mblsr1.minimize(
        problem.fun, True, np.zeros(n), metric=metric, max_steps=MOST_STEPS, gtol=0.0,
        callback=lambda step: norm(step.x) <= target,
    )  # fmt: skip
    steps = result.nit if norm(result.x) <= target else None
    return Row(n, steps, time.perf_counter() - start, result.fun)


def draw(rows: dict[str, list[Row]]) -> None:
    """Steps against unknowns; a hollow marker where `MOST_STEPS` were not enough."""
    _, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (name, some), marker, colour in zip(rows.items(), "osos", ("C0", "C0", "C1", "C1"), strict=True):
        reached = [row for row in some if row.steps]
        style = {"marker": marker, "color": colour, "linestyle": "-" if marker == "o" else "--", "label": name}
        axes.plot([row.n for row in reached], [row.steps for row in reached], **style)
        missed = [row.n for row in some if not row.steps]
        axes.scatter(missed, [MOST_STEPS] * len(missed), marker=marker, edgecolors=colour, facecolors="none")
    axes.scatter([], [], marker="s", edgecolors="grey", facecolors="none", label=f"hollow: over {MOST_STEPS:,} steps")
    power = round(-np.log10(TOLERANCE))
    axes.set(xscale="log", yscale="log", xlabel="unknowns")
    axes.set_ylabel(f"steps until the gradient is $10^{power}$ times smaller")
    axes.grid(alpha=0.3)
    axes.legend()
    pyplot.show()


def main(sizes: tuple[int, ...], few: tuple[int, ...] = FEW) -> dict[str, list[Row]]:
    """Solve both problems on all meshes with and without their metric."""
    rows = {
        "control, mass matrix": [solve(Control(n), True) for n in sizes],
        "control, no metric": [solve(Control(n), False) for n in sizes],
        "energy, stiffness matrix": [solve(Energy(n), True) for n in sizes],
        "energy, no metric": [solve(Energy(n), False) for n in few],
    }
    for name, some in rows.items():
        for row in some:
            steps = f"over {MOST_STEPS}" if row.steps is None else row.steps
            print(f"{name:26}{row.n:9} unknowns {steps:>10} steps {row.seconds:6.1f} s   loss {row.loss:.7f}")
    draw(rows)
    return rows


if __name__ == "__main__":
    largest = int(sys.argv[1]) if sys.argv[1:] else LARGEST
    main(tuple(n for n in SIZES if n <= largest))

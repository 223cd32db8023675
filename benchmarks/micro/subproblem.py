"""A trust-region subproblem from stored pairs: ours, from their Gram matrix, beside QR factorisations of Psi.

The references are the textbook solve (Brust, Erway, Marcia 2017): Psi = Y - gamma S as a (d, k) array, Psi = QR,
eigenvectors of R M R', the same secular equation. "R alone" never forms Q: P'g = U' R^-T Psi'g.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg
from benchmarks.micro.kernels import full_memory
from benchmarks.micro.timing import Pass, in_turns, ratio
from numpy.typing import NDArray

from mblsr1.linalg.lsr1 import LSR1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.subproblem import Subproblem, _secular

REPEATS, SEED, GAMMA, RADIUS = 5, 0, 1.0, 10.0
QUICK = {"d": 100_000, "m": 16}
Vector = NDArray[Any]


def cases() -> Iterator[dict[str, Any]]:
    """Dtype and m of every row."""
    for dtype, m in itertools.product(("float64", "float32"), (8, 16, 32, 64)):
        yield {"dtype": dtype, "d": 1_000_000, "m": m}


def measure(dtype: str, d: int, m: int) -> dict[str, float]:
    """Time the solve three ways."""
    memory, (g, *_) = full_memory("numpy", dtype, d, m)
    functions = {
        "ours": lambda: by_gram(memory, g),
        "QR": lambda: by_qr(memory, g),
        "R alone": lambda: by_r(memory, g),
    }
    exact = by_qr(memory, g)
    unit = Pass(memory.rows.nbytes, dtype)
    times = in_turns(functions, unit, REPEATS)  # type: ignore[arg-type]
    return {
        "pass_ms": 1e3 * min(times["pass"]),
        **{name: ratio(times[name], times["pass"]) for name in functions},
        "QR / ours": ratio(times["QR"], times["ours"]),
        "R alone / ours": ratio(times["R alone"], times["ours"]),
        "difference": float(np.linalg.norm(by_gram(memory, g) - exact) / np.linalg.norm(exact)),
    }


def by_gram(memory: PairMemory, g: Vector) -> Vector:
    """Solve as a step does: project g, spectrum from the Gram matrix, combine."""
    B = LSR1.from_memory(memory, GAMMA)
    z, own = memory.project_all([g])
    p: Vector = Subproblem(B, g, z[:, 0], own[0, 0]).solve(RADIUS).p
    return p


def _psi_and_middle(memory: PairMemory) -> tuple[Vector, Vector]:
    """Psi as a (d, k) array, oldest pair first, and N = D + L + L' - gamma S S', whose inverse is M."""
    slots = 2 * np.asarray(memory.order)
    SS, SY = memory.gram[np.ix_(slots, slots)], memory.gram[np.ix_(slots, slots + 1)]
    Psi = (memory.rows[slots + 1] - memory.rows.dtype.type(GAMMA) * memory.rows[slots]).T
    return Psi, np.tril(SY) + np.tril(SY, -1).T - GAMMA * SS


def by_qr(memory: PairMemory, g: Vector) -> Vector:
    """Solve with the thin Q."""
    Psi, N = _psi_and_middle(memory)
    Q, R = np.linalg.qr(Psi)
    lam, U = np.linalg.eigh(R @ np.linalg.solve(N, R.T.astype(float)))
    along = U.T @ (Q.T @ g)
    x, x_perp = _coordinates(lam, along, float(np.linalg.norm(g)))
    p: Vector = Q @ (U @ (x - x_perp * along)).astype(g.dtype) + g.dtype.type(x_perp) * g
    return p


def by_r(memory: PairMemory, g: Vector) -> Vector:
    """Solve with R and without Q."""
    Psi, N = _psi_and_middle(memory)
    R = np.linalg.qr(Psi, mode="r").astype(float)
    lam, U = np.linalg.eigh(R @ np.linalg.solve(N, R.T))
    T = scipy.linalg.solve_triangular(R, U)
    along = T.T @ (Psi.T @ g)
    x, x_perp = _coordinates(lam, along, float(np.linalg.norm(g)))
    p: Vector = Psi @ (T @ (x - x_perp * along)).astype(g.dtype) + g.dtype.type(x_perp) * g
    return p


def _coordinates(lam: Vector, along: Vector, norm: float) -> tuple[Vector, float]:
    """Coordinates of p over the eigenvectors, and its factor over the part of g that is orthogonal to them."""
    lam = np.append(lam + GAMMA, GAMMA)
    perp = float(np.sqrt(max(norm**2 - along @ along, 0.0)))
    a = np.append(along, perp) / norm
    root = _secular(lam, a, float(lam.min()), RADIUS / norm)
    return root.x[:-1] * norm, float(root.x[-1] * norm / perp)

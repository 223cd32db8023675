"""Pictures of Theorems 4.1 to 4.4, from the tests' own functions: ``python tests/theorems/pictures.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import matplotlib.pyplot as plt  # noqa: E402
import test_theorem_4_1 as t41  # noqa: E402
import test_theorem_4_2 as t42  # noqa: E402
import test_theorem_4_3 as t43  # noqa: E402
import test_theorem_4_4 as t44  # noqa: E402
from walks import PREMISES, full_gradients, walk  # noqa: E402

BLUE, ORANGE, PINK, GREY = "#0b6e99", "#ffa600", "#ef5675", "0.45"


def two(left, right):
    """Two panels with titles."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for ax, title in zip(axes, (left, right), strict=True):
        ax.set_title(title, loc="left", fontsize=11)
        ax.grid(True, color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
    return fig, *axes


def save(fig, folder, name):
    for ax in fig.axes:
        ax.legend(frameon=False, fontsize=9)
    fig.savefig(folder / f"{name}.png", dpi=130)
    plt.close(fig)


def theorem_4_1(folder):
    fig, left, right = two("(8): the whole gradient goes to zero", "Online, γ₁ = 0: is the batch size bounded?")
    problem = t41.BOUNDED["wells"]
    for changes, label, color in [
        ({}, "Algorithm 6", BLUE),
        ({"check_every": 10**6}, "batches of 8 for ever", ORANGE),
    ]:
        norms = full_gradients(problem, list(walk(problem, PREMISES.replace(**changes), 120, 0)))
        left.semilogy(np.maximum(norms, 1e-16), color=color, label=label)
    left.set(xlabel="step", ylabel="‖∇f(w)‖", ylim=(1e-16, 10))
    for case, start, label, color in [
        (t41.noisy_centres(), 8, "noise stays at the minimiser: not bounded", PINK),
        (t41.noisy_curvatures(), 8, "noise vanishes with the gradient", BLUE),
        (t41.noisy_slope(), 1, "the loss falls for ever", ORANGE),
    ]:
        sizes = t41.batch_sizes(case, 0, 80, stop=2**14, batch_size=start)
        right.semilogy(sizes, base=2, color=color, label=label, drawstyle="steps-post")
    right.set(xlabel="step", ylabel="batch size")
    save(fig, folder, "theorem_4_1")


def theorem_4_2(folder):
    fig, left, right = two("η = μ = 0: p* turns into span(W_neg)", "Steps, λ₁ = -4ᵏ in step k")
    digits = np.linspace(0.5, 8.0, 31)
    found = t42.angles(0, digits)
    left.loglog(10.0**digits, found[:, 0], "o", color=BLUE, ms=4, label="p*")
    left.loglog(10.0**digits, found[:, 1], color=GREY, label="bound ‖g‖ / ((C - λ₁) δ)")
    left.set(xlabel="size of the negative eigenvalues", ylabel="sine of the angle with span(W_neg)")
    start = 0.01 * np.eye(t42.D)[5]
    for arguments, label, color in [
        ({"mu": 0.0, "eta": 0.0}, "η = 0, μ = 0", BLUE),
        ({"mu": 0.4, "eta": 0.0, "gradient": t42.alternating, "start": start}, "η = 0, μ = 0.4, p* alternates", ORANGE),
        ({"mu": 0.9, "eta": 0.0, "gradient": t42.alternating, "start": start}, "η = 0, μ = 0.9, p* alternates", PINK),
        ({"mu": 0.0, "eta": 0.5}, "η = 0.5, μ = 0", GREY),
    ]:
        right.semilogy(t42.outside(t42.planted_run(26, **arguments)), color=color, label=label)
    right.set(xlabel="step k", ylabel="sine of the angle with span(W_neg)", ylim=(1e-16, 2))
    save(fig, folder, "theorem_4_2")


def theorem_4_3(folder):
    fig, left, right = two("The step turns to -g as the radius falls", "Sine over bound: at most 1")
    radii = np.logspace(-8, -0.5, 26)
    for name, color in zip(t43.BUILDERS, (BLUE, ORANGE, PINK, GREY), strict=True):
        found = t43.angles(name, 3, radii)
        line = "--" if name == "l-bfgs" else "-"  # on noisy pairs the better one may be it
        left.loglog(radii, found[:, 0], color=color, ls=line, label=name)
        left.loglog(radii, found[:, 1], color=color, ls=":", lw=1)
        right.semilogx(radii, found[:, 0] / found[:, 1], color=color, ls=line, label=name)
    left.plot([], [], color="k", ls=":", lw=1, label="bound h δ / ‖g‖")
    left.set(xlabel="radius δ", ylabel="sine of the angle between p* and -g")
    right.set(xlabel="radius δ", ylim=(0, 1.05))
    save(fig, folder, "theorem_4_3")


def theorem_4_4(folder):
    fig, left, right = two(r"Known noise: the error of $\hat\rho$", "The batch that chose the step")
    k = np.arange(1, 4097)
    for seed in range(5):
        error, deviation = t44.errors("wavering", seed, 4096)
        left.loglog(
            k, np.abs(error), color=BLUE, lw=0.7, alpha=0.7, label="ratio of means, 5 seeds" if not seed else None
        )
    left.loglog(k, deviation, color="k", lw=1.5, label="τ / (√k |mean Q|)")
    R, Q = t44.wavering(4096)
    noise = t44.TAU * np.random.default_rng(0).standard_normal(4096)
    means = t44.ratios(R + noise, Q, "mean-of-ratios") - np.cumsum(R) / np.cumsum(Q)
    left.loglog(k, np.abs(means), color=PINK, label="mean of ratios (Algorithm 5)")
    left.set(xlabel="steps k", ylabel=r"error of $\hat\rho$", ylim=(1e-5, 10))
    rho_hat, true, independent, _, _ = t44.same_batch(0)
    for values, label, color in [
        (rho_hat, r"$\hat\rho$, $\hat R$ on the batch of the step", PINK),
        (independent, r"$\hat\rho$, $\hat R$ on a fresh batch", BLUE),
        (true, "true ratio", "k"),
    ]:
        right.plot(np.arange(1, len(values) + 1), values, color=color, label=label)
    right.set(xlabel="steps k", xscale="log", ylim=(-0.6, 1.2))
    save(fig, folder, "theorem_4_4")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for draw in (theorem_4_1, theorem_4_2, theorem_4_3, theorem_4_4):
        draw(target)

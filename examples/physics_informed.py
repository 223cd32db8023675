r"""
A differential equation as least squares
========================================

A network :math:`u` with one hidden layer of tanh units is to solve

.. math:: -\Delta u + u^3 = f \;\text{ in } (0, 1)^2, \qquad u = 0 \;\text{ on the boundary},

by making the mean square of the residual small at points of the square. The boundary values are built in, by the factor
:math:`\beta = 16 x (1 - x) y (1 - y)`, and :math:`f` is chosen so that the solution is known:
:math:`\sin(2 \pi x) \sin(\pi y)`. All derivatives are written out in NumPy.

Such problems are smooth, small and badly conditioned. Quasi-Newton methods are made for that, first-order methods are
not.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize

import mblsr1

hidden = 24
rng = np.random.default_rng(0)


def exact(P):
    """The solution at points P, one a row."""
    return np.sin(2 * np.pi * P[:, 0]) * np.sin(np.pi * P[:, 1])


def factor(P):
    """The factor that is zero on the boundary, its gradient and its Laplacian."""
    a, b = (P * (1 - P)).T
    slopes = np.column_stack([(1 - 2 * P[:, 0]) * b, (1 - 2 * P[:, 1]) * a])
    return 16 * a * b, 16 * slopes, -32 * (a + b)


def solution(w, P):
    """The network times the factor."""
    A, b, c = w[: 2 * hidden].reshape(2, hidden), w[2 * hidden : 3 * hidden], w[3 * hidden :]
    return factor(P)[0] * (np.tanh(P @ A + b) @ c)


# %%
# With :math:`t = \tanh z` the derivatives of a unit are :math:`t' = 1 - t^2`, :math:`t'' = -2 t t'` and
# :math:`t''' = -2 t' (1 - 3 t^2)`. The residual is linear in the outer weights c; the rest is the chain rule.


def loss_and_gradient(w, P):
    """Half the mean square of the residual at points P, and its gradient."""
    A, b, c = w[: 2 * hidden].reshape(2, hidden), w[2 * hidden : 3 * hidden], w[3 * hidden :]
    beta, slopes, laplacian = (part[..., None] for part in factor(P))
    t = np.tanh(P @ A + b)
    t1 = 1 - t**2
    t2, t3 = -2 * t * t1, -2 * t1 * (1 - 3 * t**2)
    across, size = slopes[:, :, 0] @ A, np.sum(A**2, axis=0)
    L = laplacian * t + 2 * across * t1 + beta * size * t2  # Laplacian of each unit times the factor
    u = beta[:, 0] * (t @ c)
    right = (5 * np.pi**2 + exact(P) ** 2) * exact(P)
    residual = -(L @ c) + u**3 - right
    pull = residual / len(P)
    outer = -L.T @ pull + (beta * t).T @ (3 * u**2 * pull)
    inner = -(laplacian * t1 + 2 * across * t2 + beta * size * t3) + 3 * u[:, None] ** 2 * beta * t1
    inner = inner * c * pull[:, None]  # derivative by z
    by_A = P.T @ inner - 2 * c * (slopes[:, :, 0].T @ (t1 * pull[:, None]) + A * ((beta * t2).T @ pull))
    return 0.5 * residual @ residual / len(P), np.concatenate([by_A.ravel(), inner.sum(axis=0), outer])


# %%
# Before anything else, the gradient is checked against differences.

w0 = np.concatenate([2 * rng.standard_normal(2 * hidden), rng.standard_normal(hidden), rng.standard_normal(hidden) / 8])
points = rng.random((500, 2))
direction = rng.standard_normal(w0.size)
ahead, behind = (loss_and_gradient(w0 + h * direction, points)[0] for h in (1e-5, -1e-5))
slope = loss_and_gradient(w0, points)[1] @ direction
print(f"slope {slope:.8g}, by differences {(ahead - behind) / 2e-5:.8g}")

# %%
# The points stay the same, so the loss is a plain function. All runs may take 1,000 gradients.

budget = 1000
fixed = {"MB-LSR1": {}, **{f"Adam, rate {rate}": {"method": mblsr1.adam(rate)} for rate in (0.003, 0.01, 0.03)}}
curves, found = {}, {}
for name, how in fixed.items():
    result = mblsr1.minimize(
        lambda w: loss_and_gradient(w, points), True, w0, max_samples=budget, gtol=0.0, **how
    )  # fmt: skip
    curves[name], found[name] = (result.history["njev"], result.history["loss"]), result.x
trace = []
result = minimize(
    lambda w: trace.append(loss_and_gradient(w, points)) or trace[-1], w0, jac=True, method="L-BFGS-B",
    options={"maxcor": 20, "maxfun": budget, "maxiter": budget, "gtol": 0, "ftol": 0},
)  # fmt: skip
curves["L-BFGS-B"] = (np.arange(len(trace)), np.minimum.accumulate([loss for loss, _ in trace]))
found["L-BFGS-B"] = result.x

# %%
# L-BFGS-B is as good here: the loss is a function without noise, and its curvature is positive near the solution.

grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 61)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
for name, w in found.items():
    error = np.linalg.norm(solution(w, grid) - exact(grid)) / np.linalg.norm(exact(grid))
    print(f"{name:18} loss {loss_and_gradient(w, points)[0]:8.1e}   error of u {error:8.1e}")

fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), width_ratios=(1.5, 1, 1), layout="constrained")
for name, (cost, loss) in curves.items():
    axes[0].semilogy(cost, loss, label=name, lw=2 if name == "MB-LSR1" else 1)
axes[0].set(xlabel="gradients", ylabel="half the mean square residual")
axes[0].legend(frameon=False)
u = solution(found["MB-LSR1"], grid)
for ax, values, title in zip(axes[1:], (u, u - exact(grid)), ("u", "error of u"), strict=True):
    most = np.abs(values).max()
    image = ax.imshow(
        values.reshape(61, 61).T, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-most, vmax=most
    )  # fmt: skip
    fig.colorbar(image, ax=ax, shrink=0.8)
    ax.set_title(title, loc="left")
plt.show()

r"""
Matrix factorisation: leaving a saddle by negative curvature
============================================================

The matrix :math:`M` of scikit-learn's 1,797 handwritten digits is written as a product of two thin matrices:

.. math:: f(U, V) = \frac{1}{2n} \|U V^\top - M\|_F^2,
   \qquad U \in \mathbb R^{n \times r},\; V \in \mathbb R^{64 \times r}.

The problem is not convex, yet all about it is known. Its minimum comes from the singular values of :math:`M`
(Eckart and Young), every other stationary point is a saddle, and the one at zero has the smallest curvature
:math:`-\sigma_1(M) / n`. So this page can check what it shows.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits

import mblsr1

M = load_digits().data / 16
M -= M.mean(axis=0)
n, r = len(M), 10
singular = np.linalg.svd(M, compute_uv=False)
minimum = 0.5 * np.sum(singular[r:] ** 2) / n


def split(w):
    """U and V."""
    return w[: n * r].reshape(n, r), w[n * r :].reshape(-1, r)


def loss_and_gradient(w):
    """Loss, and gradient with the shape of w."""
    U, V = split(w)
    error = U @ V.T - M
    return 0.5 * np.sum(error**2) / n, np.concatenate([(error @ V).ravel(), (error.T @ U).ravel()]) / n


def hessian_times(w, v):
    """Hessian at w times v."""
    (U, V), (P, Q) = split(w), split(v)
    error, change = U @ V.T - M, P @ V.T + U @ Q.T
    return np.concatenate([(change @ V + error @ Q).ravel(), (change.T @ U + error.T @ P).ravel()]) / n


# %%
# At the saddle
# -------------
# At zero the gradient vanishes, so no step that is a multiple of it leads away. The SR1 matrix knows better. Twenty
# pairs (s, Hs), each s made from the image of the last, are enough for its smallest eigenvalue. Those with a negative
# s'y, BFGS would have to drop.

zero = np.zeros((n + 64) * r)
rng = np.random.default_rng(0)
s = rng.standard_normal(zero.size)
pairs = []
for _ in range(20):
    s = s / np.linalg.norm(s)
    pairs.append((s, hessian_times(zero, s)))
    s = pairs[-1][1] / np.linalg.norm(pairs[-1][1]) - 0.5 * s
S, Y = map(np.array, zip(*pairs, strict=True))
gamma = 2 * max(np.linalg.norm(Y, axis=1))
at_saddle = mblsr1.LSR1(S, Y, gamma)
print(f"smallest eigenvalue of the Hessian  {-singular[0] / n:.6f}")
print(f"smallest eigenvalue of SR1          {at_saddle.eigenvalues().min():.6f}")
print(f"pairs with s'y < 0                  {np.sum(np.sum(S * Y, axis=1) < 0)} of {len(S)}")

# %%
# The trust-region subproblem with this matrix and *no gradient at all* (the hard case) has a solution on the boundary,
# along the eigenvector of the smallest eigenvalue. The loss falls as the model says.

step = mblsr1.solve_trust_region(at_saddle, zero, 1.0)
change = loss_and_gradient(step.p)[0] - loss_and_gradient(zero)[0]
print(f"hard case: {step.hard_case}; promised {step.model_change:.6f}, achieved {change:.6f}")

# %%
# A run from beside the saddle
# ----------------------------
# `minimize` starts a thousandth away from zero. Each record has the slope g'p along the step and the decrease
# g'p + p'Bp / 2 that the model promises, and with them the curvature p'Bp / p'p that it sees.

w0 = 1e-3 * rng.standard_normal(zero.size)
cost, loss, seen, points = [0], [loss_and_gradient(w0)[0]], [], [w0]
for now in mblsr1.iterate(loss_and_gradient, True, w0, gtol=1e-7):
    cost.append(now.njev)
    loss.append(loss_and_gradient(now.x)[0])
    points.append(now.x)
    seen.append(2 * (now.predicted - now.slope) / now.step_norm**2)
print(f"after {cost[-1]} gradients the loss is {loss[-1] - minimum:.1e} above the minimum")
print(f"steps along negative curvature: {np.sum(np.array(seen) < 0)} of {len(seen)}")

trace = []
result = minimize(
    lambda w: trace.append(loss_and_gradient(w)) or trace[-1], w0, jac=True, method="L-BFGS-B",
    options={"maxcor": 20, "gtol": 1e-7, "ftol": 0, "maxfun": 500},
)  # fmt: skip
print(f"L-BFGS-B: after {result.nfev} gradients {result.fun - minimum:.1e}")

# %%
# The plateaus are saddles: at each, fewer directions lead down. The last picture has the curvature along the steps,
# as the model saw it and as it was, and the smallest that the Hessian has to offer there.


def of_hessian(w):
    """Smallest eigenvalue of the Hessian, by Lanczos; the shift makes the tolerance one of 1e-4."""
    shift = 3 * singular[0] / n
    shifted = LinearOperator((zero.size,) * 2, matvec=lambda v: hessian_times(w, v) - shift * v, dtype=float)
    return shift + eigsh(shifted, k=1, which="LM", tol=1e-4 / shift, v0=S[0], return_eigenvectors=False)[0]


steps = np.diff(points, axis=0)
changes = np.diff([loss_and_gradient(w)[1] for w in points], axis=0)
true = np.sum(steps * changes, axis=1) / np.sum(steps**2, axis=1)
shown = range(0, len(seen), 3)
smallest = [of_hessian(points[k]) for k in shown]

fig, axes = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
axes[0].semilogy(cost, np.array(loss) - minimum, label="MB-LSR1, whole set")
axes[0].semilogy(np.minimum.accumulate([f for f, _ in trace]) - minimum, label="L-BFGS-B, 20 pairs")
axes[0].set(ylabel="loss above the minimum", ylim=(1e-10, None))
axes[0].legend(frameon=False)
axes[1].axhline(0, color="0.7", lw=1)
axes[1].plot([cost[k] for k in shown], smallest, "-", color="C2", label="smallest eigenvalue of the Hessian")
axes[1].plot(cost[:-1], true, "o", color="C3", ms=4, label="along the step, measured")
axes[1].plot(cost[:-1], seen, "+", color="C0", ms=7, label="along the step, in the model")
axes[1].set(xlabel="gradients", ylabel="curvature", ylim=(-0.035, 0.07))
axes[1].legend(frameon=False)
plt.show()

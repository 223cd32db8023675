"""Bad input: an error at the call, which names the argument, the value and what is allowed."""

import dataclasses
import inspect
import re

import numpy as np
import pytest

import mblsr1
from mblsr1 import Options, metric, scaling
from mblsr1.methods import names

FINITE = "a finite number"


def fun(w):
    return float(np.sum(w * w))


def grad(w):
    return 2.0 * w


def batch_fun(w, batch):
    return float(np.sum(w * w))


def batch_grad(w, batch):
    return 2.0 * w


def both_calls(arguments, changes, error, pattern):
    """The error comes from minimize, and from iterate before any step is asked for."""
    for call in (mblsr1.minimize, mblsr1.iterate):
        with pytest.raises(error, match=pattern):
            call(*arguments, **changes)


# --- Options ---------------------------------------------------------------------------------------

INTEGERS = {
    "memory": ([-1], "an int >= 0"),
    "batch_size": ([0, -3], "an int >= 1"),
    "check_every": ([0], "an int >= 1"),
    "steps_per_batch": ([0], "an int >= 1"),
    "check_size": ([0, -1], 'an int >= 1, "all" or a function of the batch size'),
    "restart_memory": ([-1], "an int >= 0"),
}
REALS = {
    "restart_tolerance": ([], ""),
    "initial_radius": ([0.0, -1.0], " > 0"),
    "ratio_memory": ([-0.1, 1.1], " in [0, 1]"),
    "progress_decrease": ([-0.1, 1.1], " in [0, 1]"),
    "progress_fraction": ([-0.1, 1.0], " in [0, 1)"),
    "sgd_weight": ([-0.1, 1.1], " in [0, 1]"),
    "learning_rate": ([-0.1, 1.1], " in [0, 1]"),
    "momentum": ([-0.1, 1.0], " in [0, 1)"),
    "descent_tolerance": ([0.0, 1.0], " in (0, 1)"),
    "armijo": ([0.0, 1.0], " in (0, 1)"),
    "gtol": ([-1e-9], " >= 0"),
    "skip_tolerance": ([-0.1, 1.0], " in [0, 1)"),
    "radius_shrink": ([0.0, 1.1], " in (0, 1]"),
    "averaging": ([-0.1, 1.0], " in [0, 1)"),
    "overlap": ([-0.1, 0.51], " in [0, 0.5]"),
    "gradient_memory": ([-0.1, 1.0], " in [0, 1)"),
    "poor_ratio": ([-0.1, 1.1], " in [0, 1]"),
    "good_ratio": ([-0.1, 1.1], " in [0, 1]"),
    "noise_limit": ([0.0, 1.1], " in (0, 1]"),
    "largest_share": ([0.0, 1.1], " in (0, 1]"),
}
MATRICES = "'smoothed', 'better', 'sr1', 'l-bfgs'"
CHOICES = {
    "sample_matrix": MATRICES,
    "whole_matrix": MATRICES,
    "growth": "'noise', 'progress'",
    "ratio": "'of-means', 'mean-of-ratios'",
    "globalization": "'trust-region', 'line-search'",
    "mixing": "'convex', 'printed'",
}
FLAGS = ("check_both", "interpolate", "absolute", "ratio_reset", "anneal")


def bad_options():
    for name, (low, allowed) in INTEGERS.items():
        yield from ((name, value, ValueError, allowed) for value in low)
        yield from ((name, value, TypeError, allowed) for value in (1.5, True, "2", 3.0))
    for name, (outside, allowed) in REALS.items():
        yield from ((name, value, ValueError, FINITE + allowed) for value in (*outside, np.nan, np.inf, -np.inf))
        yield from ((name, value, TypeError, FINITE + allowed) for value in (True, "0.5", None, 1j, [0.5]))
    for name, allowed in CHOICES.items():
        yield from ((name, value, ValueError, "one of " + allowed) for value in ("no", 3, None, ["of-means"]))
    for name in FLAGS:
        yield from ((name, value, TypeError, "True or False") for value in (1, "yes", None))
    yield from (("scaling", value, TypeError, "a gamma rule") for value in (1.0, None, "ceiling"))
    yield from (("metric", value, TypeError, "a rule such as mblsr1.metric.diagonal()") for value in (1.0, "I", [1]))
    yield from (("blocks", value, TypeError, "a sequence of shapes") for value in (1, "784 50", True))
    yield from (("blocks", value, ValueError, "shapes of positive integers") for value in ([(0, 3)], [2.0], [(2, -1)]))
    yield "blocks", [], ValueError, "one shape at least"


def test_every_option_has_bad_values_here():
    assert {f.name for f in dataclasses.fields(Options)} == {case[0] for case in bad_options()}


@pytest.mark.parametrize(
    ("name", "value", "error", "allowed"), list(bad_options()), ids=lambda x: x if isinstance(x, str) else repr(x)
)
def test_option_out_of_range_or_of_wrong_type(name, value, error, allowed):
    pattern = rf"^{name}: must be .*{re.escape(allowed)}.*, got .*{re.escape(repr(value))}"
    with pytest.raises(error, match=pattern):
        Options(**{name: value})
    with pytest.raises(error, match=pattern):
        Options.paper().replace(**{name: value})
    both_calls((fun, grad, np.ones(2)), {name: value}, error, pattern)


@pytest.mark.parametrize("name", list(REALS))
def test_the_ends_of_each_range_are_in_or_out_as_printed(name):
    text = REALS[name][1]
    if text.startswith(" in "):
        low, high = (float(x) for x in text[5:-1].split(","))
        base = Options(
            globalization="line-search", progress_decrease=1e-3, progress_fraction=0.1, poor_ratio=0.0, good_ratio=1.0
        )
        if name == "overlap":
            base = Options()
        for end, closed in ((low, text[4] == "["), (high, text[-1] == "]")):
            if closed:
                assert getattr(base.replace(**{name: end}), name) == end
            else:
                with pytest.raises(ValueError, match=f"^{name}: "):
                    base.replace(**{name: end})


def test_an_unknown_option_is_named_with_the_known_ones():
    with pytest.raises(TypeError, match="memroy"):
        Options(memroy=3)
    with pytest.raises(TypeError, match=r"^no_such: unknown option; the options are memory, .*metric$"):
        Options().replace(no_such=3)
    for preset in (Options.paper, Options.l_ssr1_tr):
        with pytest.raises(TypeError, match=r"^memroy: unknown option"):
            preset(memroy=3)
    both_calls((fun, grad, np.ones(2)), {"memroy": 3}, TypeError, "^memroy: unknown option")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("memroy", "memory"), ("tol", "gtol"), ("batchsize", "batch_size"), ("max_step", "max_steps"), ("seed", "rng"),
        ("random_state", "rng"), ("maxiter", "max_steps"), ("maxfun", "max_samples"), ("callbacks", "callback"),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_answered_with_what_it_may_have_meant(name, meant):
    of = "" if meant in {f.name for f in dataclasses.fields(Options)} else ", an argument of minimize"
    pattern = rf"^{name}: unknown option; did you mean {meant}{of}\?$"
    both_calls((fun, grad, np.ones(2)), {name: 1}, TypeError, pattern)


def test_the_arguments_that_are_suggested_are_those_of_minimize():
    parameters = list(inspect.signature(mblsr1.minimize).parameters)
    assert [*names.ARGUMENTS] == parameters[3:-1]
    known = {*names.ARGUMENTS, *(f.name for f in dataclasses.fields(Options))}
    assert set(names._ELSEWHERE.values()) <= known
    assert not set(names._ELSEWHERE) & known


def search(**changes):
    return {"globalization": "line-search", **changes}


@pytest.mark.parametrize(
    ("changes", "name", "needed"),
    [
        ({"armijo": 0.3}, "armijo", 'globalization="line-search"'),
        ({"learning_rate": 0.5}, "learning_rate", 'globalization="line-search"'),
        ({"descent_tolerance": 0.5}, "descent_tolerance", 'globalization="line-search"'),
        (search(overlap=0.3), "overlap", 'globalization="trust-region"'),
    ],
)
def test_a_value_that_has_no_effect_is_refused(changes, name, needed):
    pattern = re.escape(f"{name}: must be left as it is without {needed}, got {changes[name]!r}")
    with pytest.raises(ValueError, match=f"^{pattern}$"):
        Options(**changes)
    both_calls((fun, grad, np.ones(2)), changes, ValueError, pattern)


@pytest.mark.parametrize(
    "changes",
    [
        search(armijo=0.3, learning_rate=0.5, descent_tolerance=0.5), search(overlap=0.0), {"overlap": 0.0},
        {"check_size": 30}, {"armijo": 1e-4, "learning_rate": 0.1, "descent_tolerance": 1e-10},
    ],
)  # fmt: skip
def test_a_value_that_has_an_effect_or_is_the_default_is_not_refused(changes):
    for name, value in changes.items():
        assert getattr(Options(**changes), name) == value


@pytest.mark.parametrize("rule", [scaling.ceiling, scaling.constant, scaling.last_pair, scaling.from_below])
def test_a_gamma_rule_without_its_brackets(rule):
    both_calls(
        (fun, grad, np.ones(2)), {"scaling": rule}, TypeError, "^scaling: must be a gamma rule such as .*, got <fun"
    )


@pytest.mark.parametrize("value", [None, "x", np.nan, np.inf, [1.0], 10**400])
def test_a_gamma_rule_is_asked_at_the_call(value):
    error, pattern = (TypeError, ValueError), "^scaling: must be a rule that returns a finite number, got"
    both_calls((fun, grad, np.ones(2)), {"scaling": lambda blocks: value}, error, pattern)


@pytest.mark.parametrize("rule", [metric.identity, metric.fixed, metric.diagonal, metric.kronecker])
def test_a_metric_rule_without_its_brackets(rule):
    pattern = "^metric: must be None or a rule such as mblsr1.metric.diagonal.., got <function"
    both_calls((fun, grad, np.ones(2)), {"metric": rule}, TypeError, pattern)


@pytest.mark.parametrize("made", [None, 1.0, np.ones(2), lambda g: g])
def test_a_metric_rule_that_makes_no_metric(made):
    pattern = "^metric: must be a rule that returns a metric, with a method of_gradient, got "
    both_calls((fun, grad, np.ones(2)), {"metric": lambda w: made}, TypeError, pattern)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"gtol": 10**400}, ValueError), ({"batch_size": np.ones(2)}, TypeError),
        ({"ratio": np.array(["a", "b"])}, ValueError),
        ({"check_size": np.array(["all", "all"])}, TypeError), ({"check_size": "ALL"}, TypeError),
        ({"interpolate": np.array([True, False])}, TypeError), ({"interpolate": np.int64(1)}, TypeError),
        ({"checkpoint_every": 10**400}, ValueError),
    ],
)  # fmt: skip
def test_values_of_other_kinds_are_named(changes, error):
    both_calls((fun, grad, np.ones(2)), changes, error, f"^{next(iter(changes))}: must be ")


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"restart_memory": 21}, r"^restart_memory: must be None or in \[0, memory=20\], got 21"),
        ({"poor_ratio": 0.9}, r"^poor_ratio: must be <= good_ratio=0.8, got 0.9"),
        ({"good_ratio": 0.3}, r"^poor_ratio: must be <= good_ratio=0.3, got 0.4"),
        ({"memory": 3, "restart_memory": 4}, r"^restart_memory: must be None or in \[0, memory=3\], got 4"),
        ({"progress_fraction": 0.0}, r"^progress_decrease: progress_decrease \+ progress_fraction must be > 0"),
        ({"sgd_weight": 0.5}, '^sgd_weight: must be 0 with globalization="trust-region".*got 0.5'),
        ({"momentum": 0.5}, '^momentum: must be 0 with globalization="trust-region".*got 0.5'),
        (
            {"sgd_weight": 0.5, "globalization": "line-search", "mixing": "printed"},
            '^sgd_weight: .*momentum must be > 0 or mixing="convex"; got sgd_weight=0.5, momentum=0.0',
        ),
    ],
)
def test_options_that_do_not_go_together(changes, pattern):
    with pytest.raises(ValueError, match=pattern):
        Options(**changes)
    both_calls((fun, grad, np.ones(2)), changes, ValueError, pattern)


def test_options_are_frozen_and_become_python_numbers():
    o = Options(
        batch_size=np.int64(5), initial_radius=np.float32(0.5), gtol=0, check_size=np.int32(7), growth="progress",
        anneal=np.False_, absolute=np.True_,
    )  # fmt: skip
    assert (o.anneal, o.absolute) == (False, True)
    assert type(o.anneal) is type(o.absolute) is bool
    assert (type(o.batch_size), type(o.initial_radius), type(o.gtol), type(o.check_size)) == (int, float, float, int)
    assert (o.batch_size, o.initial_radius, o.check_size) == (5, 0.5, 7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        o.memory = 3


@pytest.mark.parametrize("options", [{"memory": 3}, 3, "paper", Options])
def test_options_of_wrong_type(options):
    both_calls((fun, grad, np.ones(2)), {"options": options}, TypeError, "^options: must be an mblsr1.Options, got ")


# --- w0 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("w0", "error", "pattern"),
    [
        (np.array([1.0, np.nan]), ValueError, "^w0: must be finite, got an entry that is nan or infinite"),
        (np.array([np.inf, -np.inf]), ValueError, "^w0: must be finite"),
        ([1.0, np.inf], ValueError, "^w0: must be finite"),
        (np.array([1.0 + 0j]), TypeError, "^w0: must be an array of real floating numbers, got dtype complex128"),
        (1j, TypeError, "^w0: .*complex128"),
        (np.zeros(0), ValueError, r"^w0: must have at least one entry, got shape \(0,\)"),
        ([], ValueError, r"^w0: must have at least one entry"),
        (np.zeros((3, 0)), ValueError, r"^w0: must have at least one entry, got shape \(3, 0\)"),
        ("abc", TypeError, "^w0: must be an array of real floating numbers, got dtype <U3"),
        (["1", "2"], TypeError, "^w0: .*dtype <U1"),
        (b"abc", TypeError, r"^w0: .*dtype \|S3"),
        (None, TypeError, "^w0: .*dtype object"),
        (np.array([1.0, None]), TypeError, "^w0: .*dtype object"),
        ({"a": 1.0}, TypeError, "^w0: .*dtype object"),
        ([10**400], TypeError, "^w0: .*dtype object"),
        ([[1.0], [1.0, 2.0]], TypeError, "^w0: must be an array of real numbers, got list"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), TypeError, "^w0: .*dtype datetime64"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError, "^w0: must be an array without a mask, got MaskedArray"),
    ],
    ids=repr,
)
def test_bad_start(w0, error, pattern):
    both_calls((fun, grad, w0), {}, error, pattern)


@pytest.mark.parametrize(
    "w0", [[3, -1], (3, -1), [3.0, -1.0], np.array([3, -1]), np.array([3, -1], dtype=np.int8), [True, False]]
)
def test_lists_and_integers_become_the_default_float(w0):
    seen = []
    result = mblsr1.minimize(lambda w: seen.append(w) or fun(w), grad, w0)
    assert result.success
    assert {w.dtype for w in seen} == {np.dtype(np.float64)}
    assert result.x.dtype == np.float64
    np.testing.assert_array_equal(seen[0], np.asarray(w0, dtype=float))


@pytest.mark.parametrize("w0", [np.array([3.0, -1.0], dtype=">f8"), np.array([3.0, -1.0], dtype=">f4"), [3.0, -1.0]])
def test_a_start_of_another_byte_order(w0):
    result = mblsr1.minimize(fun, grad, w0)
    assert result.success
    assert result.x.dtype.isnative
    assert result.x.dtype.itemsize == np.asarray(w0).dtype.itemsize


# --- the user's functions --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 3.0, "fun", np.ones(2), True])
def test_fun_not_callable(bad):
    both_calls((bad, grad, np.ones(2)), {}, TypeError, "^fun: must be a callable fun.w, batch., got ")


@pytest.mark.parametrize("bad", [None, False, 1, "2-point", np.ones(2)])
def test_grad_neither_callable_nor_true(bad):
    both_calls((fun, bad, np.ones(2)), {}, TypeError, "^grad: must be a callable grad.w, batch., or True .*, got ")


@pytest.mark.parametrize("name", ["hvp", "callback"])
@pytest.mark.parametrize("bad", [3, "x", False])
def test_optional_functions_not_callable(name, bad):
    both_calls((fun, grad, np.ones(2)), {name: bad}, TypeError, f"^{name}: must be None or a callable, got ")


@pytest.mark.parametrize(
    ("g", "error", "pattern"),
    [
        (np.ones(3), ValueError, r"^grad: must return an array of w0's shape \(2,\), got shape \(3,\)"),
        (np.ones((2, 1)), ValueError, r"^grad: must return an array of w0's shape \(2,\), got shape \(2, 1\)"),
        (np.float64(1.0), ValueError, r"^grad: .*w0's shape \(2,\), got shape \(\)"),
        (np.ones(2, dtype=np.float32), TypeError, "^grad: must return .*library, dtype and device .*float64.*float32"),
        (np.ones(2, dtype=np.int64), TypeError, "^grad: must return .*float64.*int64"),
        (np.ones(2, dtype=complex), TypeError, "^grad: must return .*float64.*complex128"),
        ([1.0, 1.0], TypeError, "^grad: must return an array like w0, got list"),
        (None, TypeError, "^grad: must return an array like w0, got NoneType"),
        (1.0, TypeError, "^grad: must return an array like w0, got float"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError, "^grad: must return an array like w0, got MaskedArray"),
        (np.ones(2, dtype=">f8"), TypeError, "^grad: must return .*'float64', 'cpu'.*, got .*'>f8'"),
    ],
    ids=repr,
)
def test_bad_gradient(g, error, pattern):
    with pytest.raises(error, match=pattern):
        mblsr1.minimize(fun, lambda w: g, np.ones(2))
    with pytest.raises(error, match=pattern.replace("grad", "fun", 1)):
        mblsr1.minimize(lambda w: (1.0, g), True, np.ones(2))
    with pytest.raises(error, match=pattern):
        mblsr1.minimize(fun, lambda w: g, np.ones(2), method=mblsr1.sgd(0.1))


def test_a_gradient_of_another_library_is_named():
    xp = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match=r"^grad: must return .*numpy.*got .*array_api_strict"):
        mblsr1.minimize(fun, lambda w: xp.ones(2), np.ones(2))


@pytest.mark.parametrize(
    ("loss", "error", "pattern"),
    [
        (np.ones(2), ValueError, r"^fun: must return a scalar, the mean loss of the batch, got shape \(2,\)"),
        (np.ones(1), ValueError, r"^fun: must return a scalar, .*got shape \(1,\)"),
        (np.ones((1, 1)), ValueError, r"^fun: must return a scalar, .*got shape \(1, 1\)"),
        (1j, TypeError, "^fun: must return a real scalar, .*got 1j"),
        (np.complex128(1.0), TypeError, "^fun: must return a real scalar, .*got .*complex128"),
        (np.array(1j), TypeError, "^fun: must return a real scalar"),
        (None, TypeError, "^fun: must return a real scalar, .*got None"),
        ("1.5", TypeError, "^fun: must return a real scalar, .*got '1.5'"),
        ([1.0], TypeError, "^fun: must return a real scalar, .*got"),
        ((1.0, np.ones(2)), TypeError, "^fun: must return a real scalar, .*got"),
    ],
    ids=repr,
)
def test_bad_loss(loss, error, pattern):
    with pytest.raises(error, match=pattern):
        mblsr1.minimize(lambda w: loss, grad, np.ones(2))
    with pytest.raises(error, match=pattern):
        mblsr1.minimize(lambda w: (loss, 2.0 * w), True, np.ones(2))


@pytest.mark.parametrize("number", [float, int, np.float32, np.float64, np.int64, np.array])
def test_real_scalars_of_every_kind_are_losses(number):
    result = mblsr1.minimize(lambda w: number(0), lambda w: 0.0 * w, np.ones(2))
    assert (result.fun, type(result.fun)) == (0.0, float)


@pytest.mark.parametrize("both", [1.0, None, (1.0,), (1.0, np.ones(2), 3), [1.0, np.ones(2)], np.ones(2)], ids=repr)
def test_fused_function_must_return_a_pair(both):
    with pytest.raises(TypeError, match=r"^fun: with grad=True must return \(loss, gradient\), got "):
        mblsr1.minimize(lambda w: both, True, np.ones(2))


def test_hvp_is_checked_like_a_gradient():
    with pytest.raises(ValueError, match=r"^hvp: must return an array of w0's shape \(2,\), got shape \(3,\)"):
        mblsr1.minimize(
            lambda w: float(np.cos(w).sum()), lambda w: -np.sin(w), np.ones(2), hvp=lambda w, v: np.ones(3),
            restart_memory=1, restart_tolerance=1e9, max_steps=5,
        )  # fmt: skip


def test_errors_of_the_users_functions_pass_through():
    def broken(w):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        mblsr1.minimize(broken, grad, np.ones(2))
    with pytest.raises(ZeroDivisionError, match="mine"):
        mblsr1.minimize(fun, broken, np.ones(2))


def test_only_a_callback_stops_a_run_by_an_exception():
    empty = iter(())

    def ends(*_):
        return next(empty)

    cases = {
        "fun": ((ends, grad, np.ones(2)), {}),
        "grad": ((fun, ends, np.ones(2)), {}),
        r"sampler: draw\(size, rng\)": ((batch_fun, batch_grad, np.ones(2), mblsr1.StreamSampler(ends)), {}),
        "hvp": ((fun, grad, np.ones(2)), {"hvp": ends, "method": mblsr1.s_lsr1(memory=2)}),
    }
    for name, (arguments, more) in cases.items():
        with pytest.raises(ValueError, match=f"^{name} raised StopIteration; only a callback may stop a run so"):
            mblsr1.minimize(*arguments, **more)
        with pytest.raises(ValueError, match=f"^{name} raised StopIteration"):
            list(mblsr1.iterate(*arguments, **more))


@pytest.mark.parametrize("answer", [np.ones(2), np.zeros((1, 1)), np.ones(1)])
def test_an_array_is_no_answer_of_a_callback(answer):
    for callback in (lambda step: answer, mblsr1.callbacks.compose(lambda step: answer)):
        with pytest.raises(TypeError, match=r"^callback: must return None or a bool, got an array of shape \("):
            mblsr1.minimize(fun, grad, np.ones(2), callback=callback)


@pytest.mark.parametrize(("answer", "steps"), [(np.True_, 1), (1, 1), (np.array(True), 1), (np.False_, 3), (0, 3)])
def test_answers_of_a_callback(answer, steps):
    given = {"method": mblsr1.sgd(0.01), "max_steps": 3}
    assert mblsr1.minimize(fun, grad, np.ones(2), callback=lambda step: answer, **given).nit == steps


def test_numpy_warnings_of_the_users_functions_are_the_users():
    def overflows(w):
        return float(np.sum(np.exp(1e4 * w)))

    with pytest.raises(RuntimeWarning, match="overflow"):
        mblsr1.minimize(overflows, grad, np.ones(2))
    with np.errstate(over="ignore"):
        assert mblsr1.minimize(overflows, grad, np.ones(2)).status == 4


# --- sampler ---------------------------------------------------------------------------------------


class Source:
    def __init__(self, n_samples):
        self.n_samples = n_samples

    def draw(self, size, rng):
        return None


@pytest.mark.parametrize(
    ("sampler", "error", "pattern"),
    [
        (0, ValueError, "^sampler: the number of samples must be an int >= 1, got 0"),
        (-5, ValueError, "^sampler: the number of samples must be an int >= 1, got -5"),
        (True, ValueError, "^sampler: the number of samples must be an int >= 1, got True"),
        (100.0, TypeError, "^sampler: must be None, an int N or an object with n_samples and draw.*got float"),
        ("abc", TypeError, "^sampler: must be None, an int N or an object .*got str"),
        (np.ones((5, 2)), TypeError, "^sampler: .*got ndarray"),
        (object(), TypeError, "^sampler: .*got object"),
        (type("NoDraw", (), {"n_samples": 3})(), TypeError, "^sampler: .*got NoDraw"),
        (type("NoSize", (), {"draw": lambda self, size, rng: None})(), TypeError, "^sampler: .*got NoSize"),
        (Source(0), ValueError, "^sampler: n_samples must be None or an int >= 1, got 0"),
        (Source(-1), ValueError, "^sampler: n_samples must be None or an int >= 1, got -1"),
        (Source(3.0), ValueError, "^sampler: n_samples must be None or an int >= 1, got 3.0"),
        (Source(True), ValueError, "^sampler: n_samples must be None or an int >= 1, got True"),
    ],
    ids=[
        "0", "-5", "True", "float", "str", "array", "object", "no draw", "no n_samples",
        "n_samples 0", "n_samples -1", "n_samples 3.0", "n_samples True",
    ],
)  # fmt: skip
def test_bad_sampler(sampler, error, pattern):
    both_calls((batch_fun, batch_grad, np.ones(2), sampler), {}, error, pattern)


def test_check_size_all_needs_a_known_size():
    stream = mblsr1.StreamSampler(lambda size, rng: None)
    pattern = '^check_size: "all" needs a sampler with a known n_samples, got a stream'
    both_calls(
        (batch_fun, batch_grad, np.ones(2), stream), {"check_size": "all", "growth": "progress"}, ValueError, pattern
    )
    both_calls((batch_fun, batch_grad, np.ones(2), stream), {"options": Options.l_ssr1_tr()}, ValueError, pattern)


@pytest.mark.parametrize("rule", [lambda n: 1.5 * n, lambda n: 0, lambda n: "all", lambda n: None])
def test_a_rule_for_the_check_size_is_tried_at_the_call(rule):
    arguments = (batch_fun, batch_grad, np.ones(2), 50)
    changes = {"batch_size": 4, "check_size": rule, "growth": "progress"}
    if rule(4) is None:
        both_calls(arguments, changes, ValueError, "^check_size: ")
    else:
        pattern = f"^check_size: must return an int >= 1 for a batch of 4, got {re.escape(repr(rule(4)))}"
        both_calls(arguments, changes, (ValueError, TypeError), pattern)


# --- the rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "pattern"),
    [
        ("max_steps", -1, ValueError, "^max_steps: must be None or an int >= 0, got -1"),
        ("max_steps", True, TypeError, "^max_steps: must be None or an int >= 0, got True"),
        ("max_steps", 3.0, TypeError, "^max_steps: must be None or an int >= 0, got 3.0"),
        ("max_steps", np.nan, TypeError, "^max_steps: must be None or an int >= 0, got nan"),
        ("max_steps", "3", TypeError, "^max_steps: must be None or an int >= 0, got '3'"),
        ("max_samples", -1, ValueError, "^max_samples: must be None or a number >= 0, got -1"),
        ("max_samples", np.nan, ValueError, "^max_samples: must be None or a number >= 0, got nan"),
        ("max_samples", -np.inf, ValueError, "^max_samples: must be None or a number >= 0, got -inf"),
        ("max_samples", True, TypeError, "^max_samples: must be None or a number >= 0, got True"),
        ("max_samples", "3", TypeError, "^max_samples: must be None or a number >= 0, got '3'"),
        ("max_samples", 1j, TypeError, "^max_samples: must be None or a number >= 0, got 1j"),
        ("max_steps", 10**400, ValueError, "^max_steps: must be None or an int >= 0, got more than a float can hold"),
        ("max_samples", 10**400, ValueError, "^max_samples: must be None or a number >= 0, got more than a float can"),
        ("rng", np.random.PCG64(0), TypeError, r"^rng: .*got .*PCG64.*numpy.random.default_rng\(...\) makes"),
        ("rng", "abc", TypeError, "^rng: must be None, an int >= 0 or a numpy.random.Generator, got 'abc'"),
        ("rng", 1.5, TypeError, "^rng: .*got 1.5"),
        ("rng", True, TypeError, "^rng: .*got True"),
        ("rng", -1, ValueError, "^rng: .*got -1"),
        ("method", "sgd", TypeError, "^method: must be None or a Method such as mblsr1.sgd.0.1., got str"),
        ("method", mblsr1.sgd, TypeError, "^method: must be None or a Method .*got function"),
        ("method", Options(), TypeError, "^method: must be None or a Method .*got Options"),
        ("state", {"w": 1}, TypeError, "^state: must be result.state, step.state or from load_state, got dict"),
        ("state", "file.npz", TypeError, "^state: .*got str"),
    ],
)  # fmt: skip
def test_bad_argument(name, value, error, pattern):
    both_calls((fun, grad, np.ones(2)), {name: value}, error, pattern)


@pytest.mark.parametrize(
    "method", [mblsr1.sgd(0.1), mblsr1.adam(), mblsr1.svrg(), mblsr1.s_lsr1()], ids=lambda m: m.name
)
def test_another_method_refuses_options_it_does_not_obey(method):
    obeyed = {"averaging": 0.5, "batch_size": 2, "gtol": 1e-3, "check_every": 3, "steps_per_batch": 2}
    mblsr1.minimize(batch_fun, batch_grad, np.ones(2), 5, method=method, max_steps=1, **obeyed)
    foreign = {f.name for f in dataclasses.fields(Options)} - set(obeyed)
    for name in sorted(foreign):
        both_calls(
            (fun, grad, np.ones(2)), {"method": method, name: getattr(Options(), name)}, ValueError,
            f"^{name}: is an option of MB-LSR1; method '{method.name}' obeys {', '.join(sorted(obeyed))}$",
        )  # fmt: skip


def test_state_of_another_run_is_refused():
    state = mblsr1.minimize(fun, grad, np.ones((2, 3)), max_steps=2).state
    call = (fun, grad)
    both_calls((*call, np.ones((2, 3))), {"state": state, "method": mblsr1.adam()}, ValueError,
               r"^state: is of method 'mb-lsr1' and shape \(2, 3\), this run is 'adam' with w0 of shape")  # fmt: skip
    both_calls(
        (*call, np.ones(6)), {"state": state}, ValueError, r"^state: .*this run is 'mb-lsr1' with w0 of shape \(6,\)"
    )
    both_calls((*call, np.ones((2, 3))), {"state": state, "memory": 5}, ValueError,
               r"^state: holds a pair buffer of shape \(40, 6\), but memory=5 and w0 need \(10, 6\)")  # fmt: skip


RATES = {
    mblsr1.sgd: {"learning_rate": (0.0, -1.0, "> 0"), "momentum": (-0.1, 1.0, r"in \[0, 1\)")},
    mblsr1.adam: {
        "learning_rate": (0.0, -1.0, "> 0"),
        "beta_1": (-0.1, 1.0, r"in \[0, 1\)"),
        "beta_2": (-0.1, 1.0, r"in \[0, 1\)"),
        "epsilon": (0.0, -1.0, "> 0"),
    },
    mblsr1.rmsprop: {
        "learning_rate": (0.0, -1.0, "> 0"),
        "alpha": (-0.1, 1.0, r"in \[0, 1\)"),
        "epsilon": (0.0, -1.0, "> 0"),
    },
    mblsr1.svrg: {"learning_rate": (0.0, -1.0, "> 0"), "passes": (0.0, -1.0, "> 0")},
    mblsr1.s_lsr1: {"initial_radius": (0.0, -1.0, "> 0"), "skip_tolerance": (-0.1, 1.0, r"in \[0, 1\)")},
}


@pytest.mark.parametrize(
    ("factory", "name"),
    [(factory, name) for factory, names in RATES.items() for name in names],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_ranges_of_the_baselines(factory, name):
    *outside, allowed = RATES[factory][name]
    for value in (*outside, np.nan, np.inf, "1", None, True):
        error = ValueError if isinstance(value, float) else TypeError
        with pytest.raises(error, match=f"^{name}: must be a finite number {allowed}, got {value!r}"):
            factory(**{name: value})


def test_the_other_settings_of_s_lsr1():
    for value in (1.5, "1", None, True):
        with pytest.raises(TypeError, match=f"^memory: must be an int >= 0, got {value!r}"):
            mblsr1.s_lsr1(memory=value)
    with pytest.raises(ValueError, match=r"^memory: must be an int >= 0, got -1"):
        mblsr1.s_lsr1(memory=-1)
    with pytest.raises(TypeError, match=r"^scaling: must be None or a gamma rule such as .*, got 1\.0"):
        mblsr1.s_lsr1(scaling=1.0)


@pytest.mark.parametrize("name", ["fun", "grad", "w0"])
def test_the_three_arguments_are_required(name):
    arguments = {"fun": fun, "grad": grad, "w0": np.ones(2)}
    del arguments[name]
    with pytest.raises(TypeError, match=name):
        mblsr1.minimize(**arguments)

"""The array adapter: accuracy of the inner products, norms at the ends of the range, every library."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from libraries import LIBRARIES, parameters

from mblsr1 import _array

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def exact(a, b):
    """a'b of float32 or float64 vectors, rounded once: float32 products are exact in float64."""
    if a.dtype == np.float32:
        return math.fsum(a.astype(float) * b.astype(float))
    return float(sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)))


@pytest.mark.parametrize("d", [63, 1024, 1025, 5000])
def test_products_with_no_rows(xp, d):
    """An empty memory, at the first step."""
    v = np.random.default_rng(d).standard_normal(d)
    got = _array.inner_products(xp(np.zeros((0, d))), [xp(v)])
    v = v.astype(kind(xp)).astype(float)
    np.testing.assert_allclose(got, [[v @ v]], rtol=1e-7 if xp.single else d * EPS)


@pytest.mark.parametrize("d", [1, 63, 64, 65, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_products(xp, d, k):
    rng = np.random.default_rng(d + k)
    rows, vectors = rng.standard_normal((4, d)), rng.standard_normal((k, d))
    got = _array.products(xp(rows), [xp(v) for v in vectors])
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float64
    assert got.shape == (4, k)
    rows, vectors = rows.astype(kind(xp)), vectors.astype(kind(xp))
    for i in range(4):
        for j in range(k):
            size = np.linalg.norm(rows[i].astype(float)) * np.linalg.norm(vectors[j].astype(float))
            # float64: at most d roundings of partial sums, in the mean sqrt(d); float32: 1e-7, see below
            limit = 1e-7 if xp.single else (4 + math.sqrt(d)) * EPS
            assert abs(got[i, j] - exact(rows[i], vectors[j])) <= limit * size


def kind(xp):
    return np.dtype(xp.dtype).type


@pytest.fixture(params=parameters(*(name for name in sorted(LIBRARIES) if "float32" in name)))
def single(request):
    """The libraries in float32."""
    library = LIBRARIES[request.param]()
    with library.context():
        yield library


@pytest.mark.parametrize("sign", ["random", "positive", "equal"])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_float32_products_are_accurate_to_half_an_eps(single, rows, sign):
    """d = 2e5: 1e-7 |a||b|. A sum in float32 alone is off by far more where all terms have one sign."""
    xp, rng = single, np.random.default_rng(7)
    a = rng.standard_normal((rows, 200_000)).astype(np.float32)
    b = rng.standard_normal(200_000).astype(np.float32)
    if sign == "positive":
        a, b = np.abs(a), np.abs(b)
    elif sign == "equal":
        a[:], b[:] = np.float32(0.1), np.float32(0.3)
    got = _array.products(xp(a), [xp(b), xp(b)])
    for i in range(min(rows, 3)):
        size = np.linalg.norm(a[i].astype(float)) * np.linalg.norm(b.astype(float))
        # Equal entries round alike: a run of 1024 added one by one in float32 is off by up to 1024 eps / 2.
        limit = 1e-7 if sign != "equal" else 1024 * 0.5 * xp.eps
        assert np.abs(got[i] - exact(a[i], b)).max() <= limit * size
    square = _array.dot(xp(a[0]), xp(a[0]))
    assert abs(square - exact(a[0], a[0])) <= limit * exact(a[0], a[0])


def test_dot(xp):
    a, b = np.array([1.0, -2.0, 3.0]), np.array([4.0, 5.0, -6.0])
    assert _array.dot(xp(a), xp(b)) == -24.0
    assert type(_array.dot(xp(a), xp(b))) is float


@pytest.mark.parametrize("exponent", [-300, -200, -160, -150, -20, 0, 20, 150, 160, 200, 300])
def test_norm_neither_overflows_nor_underflows(xp, exponent):
    if xp.single and abs(exponent) > 30:
        pytest.skip("not a float32 number")
    scale = 10.0**exponent
    values = np.array([3.0, -4.0, 0.0]) * scale
    assert _array.norm(xp(values)) == pytest.approx(5.0 * scale, rel=4 * xp.eps, abs=0)


@pytest.mark.parametrize("exponent", [-43, -40, -38, -30, -25, -23, -21, -19, -17, -15, 15, 18, 19, 20, 30, 37])
def test_norm_in_float32_at_the_ends_of_its_range(exponent):
    """Squares of float32 numbers under 1e-19 have lost digits, under 1e-23 all of them; over 1e19 they overflow."""
    values = (np.ones(100) * 10.0**exponent).astype(np.float32)
    expected = math.sqrt(math.fsum(values.astype(float) ** 2))
    assert _array.norm(values) == pytest.approx(expected, rel=2e-7, abs=0)


@pytest.mark.parametrize("values", [[5e-324, 0.0], [1e-310, 2e-310], [1.7e308, 1e300], [1e-308, 1e-308]])
def test_norm_of_the_smallest_and_largest_numbers(values):
    assert _array.norm(np.array(values)) == pytest.approx(math.hypot(*values), rel=1e-13, abs=5e-324)


def test_norm_of_zero_and_of_what_is_not_finite(xp):
    assert _array.norm(xp([0.0, 0.0])) == 0.0
    with np.errstate(all="ignore"):
        assert _array.norm(xp([math.inf, 1.0])) == math.inf
        assert math.isnan(_array.norm(xp([math.nan, 1.0])))


@given(hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-1e300, 1e300, allow_subnormal=False)))
def test_norm_against_hypot(values):
    # each of the d squares and sums is rounded once
    assert _array.norm(values) == pytest.approx(math.hypot(*values), rel=2 * EPS * (2 + values.size), abs=1e-300)


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([1.0, 2.0], True),
        ([0.0, -0.0], True),
        ([math.inf, 1.0], False),
        ([math.inf, -math.inf], False),
        ([math.nan, 1.0], False),
        ([-math.inf, -math.inf], False),
        ([3e38, 3e38], True),
        ([3e38, -math.inf], False),
    ],
)
def test_all_finite(xp, values, finite):
    """A sum that overflows is no proof of an infinite entry, and inf - inf hides none."""
    assert _array.all_finite(xp(values)) is finite


def test_all_finite_where_a_float64_sum_overflows():
    assert _array.all_finite(np.array([1.7e308, 1.7e308]))


def test_combine(xp):
    rng = np.random.default_rng(3)
    rows, base, c = rng.standard_normal((4, 30)), rng.standard_normal(30), rng.standard_normal(4)
    with_base = _array.combine(c, xp(rows), -1.5, xp(base))
    without = _array.combine(c, xp(rows))
    assert xp.is_kind(with_base)
    assert xp.is_kind(without)
    # four products of numbers of about 2, rounded to eps each, coefficients included
    np.testing.assert_allclose(xp.to_numpy(without), c @ rows, atol=40 * xp.eps)
    np.testing.assert_allclose(xp.to_numpy(with_base), c @ rows - 1.5 * base, atol=40 * xp.eps)


@pytest.mark.parametrize("d", [3, 5000])
def test_linear_is_the_sum_in_new_memory(xp, d):
    a, b = (xp.asarray(np.linspace(-1.0, k, d)) for k in (1.0, 2.0))
    before = _array.to_numpy(a).copy(), _array.to_numpy(b).copy()
    for coefficients, vectors, exact in (
        ([1.0], [a], before[0]),
        ([1.0, 1.0], [a, b], before[0] + before[1]),
        ([1.0, -2.0], [a, b], before[0] - 2.0 * before[1]),
        ([0.5, 1.0, 1.0], [a, b, a], 0.5 * before[0] + before[1] + before[0]),
    ):
        out = _array.linear(coefficients, vectors)
        np.testing.assert_array_equal(_array.to_numpy(out), exact)
        out = _array.set_row(_array.reshape(out, (1, d)), 0, 0.0 * a)
        np.testing.assert_array_equal(_array.to_numpy(a), before[0])
        np.testing.assert_array_equal(_array.to_numpy(b), before[1])


def test_a_number_that_no_float_can_hold_is_infinite():
    assert _array.to_float(10**400) == math.inf
    assert _array.to_float(-(10**400)) == -math.inf
    assert _array.to_float(3) == 3.0


def test_copy_is_a_copy_and_adopt_too(xp):
    x = xp([1.0, 2.0])
    for y in (_array.copy(x), _array.adopt(x, x)):
        assert xp.is_kind(y)
        assert y is not x
        if xp.mutable:
            y[0] = 5.0
        np.testing.assert_array_equal(xp.to_numpy(x), [1.0, 2.0])


def test_adopt_takes_arrays_of_other_libraries(xp):
    host = np.array([1.0, 2.5])
    there = _array.adopt(host, xp([0.0]))
    assert xp.is_kind(there)
    np.testing.assert_array_equal(xp.to_numpy(there), host)
    back = _array.adopt(there, host)
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, host)
    there_from_host = _array.from_host(host, xp([0.0]))
    assert xp.is_kind(there_from_host)


def test_host_and_to_numpy(xp):
    x = xp([[1.5, 2.0]])
    assert _array.host(x).dtype == np.float64
    assert _array.to_numpy(x).dtype == kind(xp)
    np.testing.assert_array_equal(_array.host(x), [[1.5, 2.0]])


def test_questions(xp):
    x = xp([1.0, 2.0])
    assert _array.is_array(x)
    assert not _array.is_array([1.0])
    assert not _array.is_array(None)
    assert _array.eps(x) == xp.eps
    assert _array.is_single(x) == (xp.single)
    assert _array.is_real_floating(x)
    assert not _array.is_integer(x)
    assert _array.same_kind(x, xp([3.0]))
    other = np.zeros(1, dtype=np.float64 if xp.single else np.float32)
    assert not _array.same_kind(x, other)
    assert _array.spec(x) == _array.spec(xp([[0.0]]))
    assert str(kind(xp).__name__) in _array.spec(x)[1]


def test_rows(xp):
    buffer = _array.row_buffer(xp([1.0, 2.0, 3.0]), 2)
    assert xp.is_kind(buffer)
    assert buffer.shape == (2, 3)
    buffer = _array.set_row(buffer, 1, xp([4.0, 5.0, 6.0]))
    np.testing.assert_array_equal(xp.to_numpy(buffer), [[0, 0, 0], [4, 5, 6]])


def test_shapes(xp):
    x = xp([[1.0, 2.0], [3.0, 4.0]])
    assert _array.flatten(x).shape == (4,)
    assert _array.reshape(_array.flatten(x), (2, 2)).shape == (2, 2)
    flat = xp([1.0])
    assert _array.flatten(flat) is flat
    assert _array.reshape(flat, (1,)) is flat
    np.testing.assert_array_equal(xp.to_numpy(_array.concatenate([xp([1.0]), xp([2.0, 3.0])])), [1, 2, 3])
    np.testing.assert_array_equal(xp.to_numpy(_array.sqrt(xp([4.0, 9.0]))), [2, 3])
    taken = _array.take(x, np.array([1, 1, 0]))
    np.testing.assert_array_equal(xp.to_numpy(taken), [[3, 4], [3, 4], [1, 2]])


def test_normal_draws_the_same_numbers_in_every_library(xp):
    expected = np.random.default_rng(5).standard_normal(6)
    drawn = _array.normal(np.random.default_rng(5), xp(np.zeros(6)))
    assert xp.is_kind(drawn)
    np.testing.assert_array_equal(xp.to_numpy(drawn), expected.astype(kind(xp)))


def test_as_array():
    x = np.ones(2)
    assert _array.as_array(x) is x
    np.testing.assert_array_equal(_array.as_array([1.0, 2.0]), [1.0, 2.0])
    assert isinstance(_array.as_array(np.float64(2.0)), np.ndarray)
    assert _array.to_float(np.array([2.5])[0]) == 2.5


@pytest.mark.parametrize("d", [1023, 1025, 4097, 16_383, 16_384, 16_385, 40_000])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_every_column_counts_once(xp, d, rows):
    """Small whole numbers, whose sums are exact in float32 too: no run is left out, none counted twice."""
    rng = np.random.default_rng(d)
    A, V = rng.integers(-3, 4, (rows, d)), rng.integers(-3, 4, (2, d))
    np.testing.assert_array_equal(_array.products(xp(A), [xp(v) for v in V]), A @ V.T)
    coefficients = rng.integers(-3, 4, rows)
    combined = _array.combine(coefficients.astype(float), xp(A), -2.0, xp(V[0]))
    np.testing.assert_array_equal(xp.to_numpy(combined), coefficients @ A - 2 * V[0])
    np.testing.assert_array_equal(xp.to_numpy(_array.linear([2.0, 1.0], [xp(V[0]), xp(V[1])])), 2 * V[0] + V[1])

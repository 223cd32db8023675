"""Samplers: sizes, repetition, uniformity, coverage, joining and splitting, errors."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
from choices import RESOLVING
from scipy.stats import chi2

import mblsr1
from mblsr1.sampling import Sampler, checked_sampler

#: A correct sampler fails a test of chance with this probability.
FALSE_ALARM = 1e-6


@pytest.fixture
def rng():
    return np.random.default_rng(20240101)


def inclusion_statistic(counts, draws, size, n):
    """Chi-square statistic of how often each of n items was drawn, n - 1 degrees of freedom.

    Under drawing `size` of n without repetition the counts of one draw have covariance
    p (1 - p) n / (n - 1) (I - 1 1'/n) with p = size / n.
    """
    p = size / n
    return float(np.sum((counts - draws * p) ** 2)) * (n - 1) / (n * draws * p * (1.0 - p))


# --- IndexSampler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 17, 1000])
@pytest.mark.parametrize("size", [1, 2, 16, 999])
def test_indices_are_in_range_and_never_repeat(n, size, rng):
    for _ in range(20):
        batch = mblsr1.IndexSampler(n).draw(size, rng)
        assert batch.shape == (min(size, n),)
        assert np.issubdtype(batch.dtype, np.integer)
        assert len(set(batch.tolist())) == len(batch)
        assert 0 <= batch.min() <= batch.max() < n


@pytest.mark.parametrize("size", [5, 6, 100])
def test_the_batch_of_the_whole_set_is_in_order_and_draws_nothing(size, rng):
    before = rng.bit_generator.state
    np.testing.assert_array_equal(mblsr1.IndexSampler(5).draw(size, rng), np.arange(5))
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(("n", "size"), [(10, 1), (10, 3), (10, 9), (500, 4), (500, 100)])
def test_every_index_is_equally_likely(n, size, rng):
    sampler, draws = mblsr1.IndexSampler(n), 4000
    counts = np.zeros(n)
    for _ in range(draws):
        counts[sampler.draw(size, rng)] += 1
    assert counts.sum() == draws * size
    statistic = inclusion_statistic(counts, draws, size, n)
    assert chi2.ppf(FALSE_ALARM, n - 1) < statistic < chi2.isf(FALSE_ALARM, n - 1)


def test_every_pair_of_indices_is_equally_likely(rng):
    sampler, draws, n = mblsr1.IndexSampler(6), 6000, 6
    pairs = {(i, j): 0 for j in range(n) for i in range(j)}
    for _ in range(draws):
        pairs[tuple(sorted(sampler.draw(2, rng).tolist()))] += 1
    expected = draws / len(pairs)
    statistic = sum((c - expected) ** 2 / expected for c in pairs.values())
    assert statistic < chi2.isf(FALSE_ALARM, len(pairs) - 1)


def test_the_test_of_uniformity_notices_a_bias(rng):
    counts, draws = np.zeros(10), 4000
    for _ in range(draws):
        batch = rng.choice(10, 3, replace=False)
        if rng.random() < 0.15:  # now and then index 0 is avoided
            batch = 1 + rng.choice(9, 3, replace=False)
        counts[batch] += 1
    assert inclusion_statistic(counts, draws, 3, 10) > chi2.isf(FALSE_ALARM, 9)


def test_draws_follow_the_seed_and_are_independent():
    sampler = mblsr1.IndexSampler(100)
    first, second = (sampler.draw(10, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    rng = np.random.default_rng(3)
    assert not np.array_equal(sampler.draw(10, rng), sampler.draw(10, rng))


@pytest.mark.parametrize("n", [1, 7, 12])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_chunks_cover_the_set_once(n, size):
    parts = list(mblsr1.IndexSampler(n).chunks(size))
    np.testing.assert_array_equal(np.concatenate([indices for indices, _ in parts]), np.arange(n))
    assert all(len(indices) == count <= size for indices, count in parts)
    assert all(count == size for _, count in parts[:-1])


@pytest.mark.parametrize("n", [0, -1, 2.0, "3", None, True])
def test_bad_number_of_samples(n):
    with pytest.raises(ValueError, match=rf"^sampler: the number of samples must be an int >= 1, got {n!r}"):
        mblsr1.IndexSampler(n)


def test_numpy_integers_are_sizes():
    assert type(mblsr1.IndexSampler(np.int64(5)).n_samples) is int


# --- ArraySampler ----------------------------------------------------------------------------------

X = np.arange(20.0).reshape(10, 2)
Y = np.arange(10)


def test_the_same_rows_of_every_array(rng):
    sampler = mblsr1.ArraySampler(X, Y)
    assert sampler.n_samples == 10
    for size in (1, 4, 9):
        x, y = sampler.draw(size, rng)
        assert (x.shape, y.shape) == ((size, 2), (size,))
        assert len(set(y.tolist())) == size
        np.testing.assert_array_equal(x, X[y])


@pytest.mark.parametrize("size", [10, 11])
def test_the_full_batch_is_the_arrays_themselves(size, rng):
    x, y = mblsr1.ArraySampler(X, Y).draw(size, rng)
    assert x is X
    assert y is Y


def test_one_array_is_still_a_tuple(rng):
    (x,) = mblsr1.ArraySampler(X).draw(3, rng)
    assert x.shape == (3, 2)


def test_a_batch_is_a_copy(rng):
    x, _ = mblsr1.ArraySampler(X, Y).draw(3, rng)
    assert not np.shares_memory(x, X)


def test_rows_are_uniform(rng):
    sampler, draws, counts = mblsr1.ArraySampler(Y), 4000, np.zeros(10)
    for _ in range(draws):
        counts[sampler.draw(3, rng)[0]] += 1
    assert inclusion_statistic(counts, draws, 3, 10) < chi2.isf(FALSE_ALARM, 9)


@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_row_chunks_cover_the_set_once(size):
    parts = list(mblsr1.ArraySampler(X, Y).chunks(size))
    np.testing.assert_array_equal(np.concatenate([x for (x, _), _ in parts]), X)
    np.testing.assert_array_equal(np.concatenate([y for (_, y), _ in parts]), Y)
    assert [count for _, count in parts] == [len(y) for (_, y), _ in parts]


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.lil_matrix])
def test_sparse_rows(kind, rng):
    sampler = mblsr1.ArraySampler(kind(X), Y)
    x, y = sampler.draw(4, rng)
    assert scipy.sparse.issparse(x)
    np.testing.assert_array_equal(x.toarray(), X[y])
    np.testing.assert_array_equal(np.vstack([x.toarray() for (x, _), _ in sampler.chunks(3)]), X)
    assert type(sampler.n_samples) is int


def test_lists_are_rows(rng):
    sampler = mblsr1.ArraySampler(X.tolist(), Y.tolist())
    x, y = sampler.draw(4, rng)
    np.testing.assert_array_equal(x, X[y])
    np.testing.assert_array_equal(np.concatenate([y for (_, y), _ in sampler.chunks(3)]), Y)
    assert isinstance(sampler.draw(10, rng)[0], np.ndarray)


def test_memory_mapped_rows(tmp_path, rng):
    np.save(tmp_path / "x.npy", X)
    x, y = mblsr1.ArraySampler(np.load(tmp_path / "x.npy", mmap_mode="r"), Y).draw(4, rng)
    np.testing.assert_array_equal(x, X[y])


class Labelled:
    """Rows as pandas has them: brackets look labels up, `iloc` positions."""

    def __init__(self, a, labels):
        self.a, self.shape, self.places = a, a.shape, {label: i for i, label in enumerate(labels)}
        self.iloc = a

    def __getitem__(self, labels):
        return self.a[[self.places[label] for label in labels]]

    def to_numpy(self):
        return self.a


def test_labels_play_no_part(rng):
    sampler = mblsr1.ArraySampler(X, Labelled(Y, range(9, -1, -1)))
    x, y = sampler.draw(4, rng)
    np.testing.assert_array_equal(x, X[y])
    np.testing.assert_array_equal(sampler.draw(10, rng)[1], Y)


def test_frames_and_series(rng):
    pandas = pytest.importorskip("pandas")
    labels = np.random.default_rng(0).permutation(10)
    sampler = mblsr1.ArraySampler(pandas.DataFrame(X, index=labels), pandas.Series(Y, index=labels))
    x, y = sampler.draw(4, rng)
    assert (type(x), type(y)) == (np.ndarray, np.ndarray)
    np.testing.assert_array_equal(x, X[y])


class Counted:
    """An array that keeps how many rows were read at once."""

    def __init__(self, a):
        self.a, self.shape, self.read = a, a.shape, []

    def __getitem__(self, rows):
        found = self.a[rows]
        self.read.append(len(found))
        return found


def mean_square(w, batch):
    (x,) = batch
    e = x @ w - 1.0
    return float(e @ e) / len(e), 2.0 * x.T @ e / len(e)


@pytest.fixture
def mapped(tmp_path):
    """12,000 rows in a file, and the same in memory."""
    x = np.random.default_rng(0).standard_normal((12_000, 3))
    np.save(tmp_path / "x.npy", x)
    return np.load(tmp_path / "x.npy", mmap_mode="r"), x


def test_a_run_on_a_file_is_the_run_in_memory(mapped):
    given = {"rng": 0, "batch_size": 100, "max_steps": 10}
    on_file, in_memory = (
        mblsr1.minimize(mean_square, True, np.ones(3), mblsr1.ArraySampler(x), **given) for x in mapped
    )
    np.testing.assert_array_equal(on_file.x, in_memory.x)
    np.testing.assert_equal(on_file.history, in_memory.history)


def test_only_the_rows_of_the_batches_are_read(mapped):
    counted = Counted(mapped[0])
    sampler = mblsr1.ArraySampler(counted)
    assert counted.read == [2]  # whether it takes indices
    counted.read.clear()
    result = mblsr1.minimize(
        mean_square, True, np.ones(3), sampler, rng=0, batch_size=100, max_steps=5, gtol=0.0, overlap=0.0,
        steps_per_batch=2,
    )  # fmt: skip
    # Three batches, each read once for all its evaluations, and the sample of the batch rule's first check.
    assert counted.read == [100, 110, 100, 100]
    assert result.njev > 3


def test_the_whole_set_is_read_in_chunks(mapped):
    counted = Counted(mapped[0])
    sampler = mblsr1.ArraySampler(counted)
    result = mblsr1.minimize(mean_square, True, np.ones(3), sampler, rng=0, batch_size=100, gtol=1e9)
    assert result.status == 0
    chunks = counted.read[-3:]
    assert chunks == [5000, 5000, 2000]
    assert sum(counted.read[:-3]) == 102


def test_svrg_reads_its_snapshots_in_chunks(mapped):
    counted = Counted(mapped[0])
    method = mblsr1.svrg(0.01, passes=0.05)
    mblsr1.minimize(
        mean_square, True, np.ones(3), mblsr1.ArraySampler(counted), method=method, rng=0, batch_size=100, max_steps=6,
        gtol=0.0,
    )  # fmt: skip
    assert max(counted.read) == 5000
    assert counted.read.count(5000) == 2


def test_rows_of_another_library(rng):
    xp = pytest.importorskip("array_api_strict")
    x, y = mblsr1.ArraySampler(xp.asarray(X), xp.asarray(Y)).draw(4, rng)
    assert type(x) is type(xp.asarray(X))
    np.testing.assert_array_equal(np.asarray(x), X[np.asarray(y)])


def test_the_same_seed_draws_the_same_rows_in_every_library():
    xp = pytest.importorskip("array_api_strict")
    (a,) = mblsr1.ArraySampler(Y).draw(4, np.random.default_rng(1))
    (b,) = mblsr1.ArraySampler(xp.asarray(Y)).draw(4, np.random.default_rng(1))
    np.testing.assert_array_equal(a, np.asarray(b))


class InOrder:
    """A set that takes indices only in order, as those of HDF5 do."""

    def __init__(self, a):
        self.a, self.shape = a, a.shape

    def __getitem__(self, indices):
        if np.any(np.diff(indices) < 0):
            raise TypeError("Indexing elements must be in increasing order")
        return self.a[indices]


@pytest.mark.parametrize(
    ("arrays", "error", "pattern"),
    [
        ((), ValueError, "^sampler: ArraySampler needs at least one array, got none"),
        ((X, Y[:9]), ValueError, r"^sampler: all arrays must have the same number of rows, got \[10, 9\]"),
        ((X[:0],), ValueError, "^sampler: the number of samples must be an int >= 1, got 0"),
        (([],), ValueError, "^sampler: the number of samples must be an int >= 1, got 0"),
        ((np.array(3.0),), TypeError, "^sampler: ArraySampler needs arrays with rows, got array"),
        ((3,), TypeError, "^sampler: ArraySampler needs arrays with rows, got 3"),
        ((X, None), TypeError, "^sampler: ArraySampler needs arrays with rows, got None"),
        (
            ([[1.0], [2.0, 3.0]],),
            TypeError,
            "^sampler: ArraySampler needs arrays with rows, got a list of unequal parts",
        ),
        (({"x": X},), TypeError, "^sampler: ArraySampler needs .* an index array takes in any order; got dict"),
        (({1, 2},), TypeError, "^sampler: ArraySampler needs .* an index array takes in any order; got set"),
        (("ab",), TypeError, "^sampler: ArraySampler needs .* an index array takes in any order; got str"),
        ((InOrder(Y),), TypeError, "^sampler: ArraySampler needs .* in any order; got InOrder"),
    ],
)
def test_bad_arrays(arrays, error, pattern):
    with pytest.raises(error, match=pattern):
        mblsr1.ArraySampler(*arrays)


# --- StreamSampler ---------------------------------------------------------------------------------


def test_a_stream_hands_on_size_and_generator(rng):
    asked = []
    sampler = mblsr1.StreamSampler(lambda size, generator: asked.append((size, generator)) or "batch")
    assert sampler.draw(5, rng) == "batch"
    assert asked == [(5, rng)]
    assert sampler.n_samples is None
    assert not hasattr(sampler, "chunks")


@pytest.mark.parametrize("draw", [None, 3, "x", [1]])
def test_bad_stream(draw):
    with pytest.raises(
        TypeError, match=rf"^sampler: StreamSampler needs a callable draw.size, rng., got {type(draw).__name__}"
    ):
        mblsr1.StreamSampler(draw)


# --- LoaderSampler ---------------------------------------------------------------------------------


def loader(*sizes):
    """A pass over consecutive rows in batches of these sizes."""
    starts = np.cumsum([0, *sizes])
    return [(np.arange(a, b), 10.0 * np.arange(a, b)) for a, b in pairwise(starts)]


@pytest.mark.parametrize("sizes", [(4, 4, 4), (1,) * 12, (12,), (5, 7), (3, 1, 8)])
@pytest.mark.parametrize("wanted", [(3, 3, 3, 3), (12,), (5, 4, 3), (1, 11), (12, 12, 7), (25,)])
def test_batches_are_joined_and_split(sizes, wanted):
    sampler = mblsr1.LoaderSampler(lambda: loader(*sizes))
    got = [sampler.draw(size, None) for size in wanted]
    assert all(isinstance(batch, tuple) and len(batch) == 2 for batch in got)
    assert [len(x) for x, _ in got] == list(wanted)
    expected = np.resize(np.arange(12), sum(wanted))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in got]), expected)
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), 10.0 * expected)


def test_lists_count_as_tuples_and_single_arrays_stay_arrays():
    lists = mblsr1.LoaderSampler(lambda: [list(batch) for batch in loader(4, 2)])
    x, y = lists.draw(5, None)
    np.testing.assert_array_equal(10.0 * x, y)
    single = mblsr1.LoaderSampler(lambda: (x for x, _ in loader(4, 2)))
    np.testing.assert_array_equal(single.draw(5, None), np.arange(5))
    np.testing.assert_array_equal(single.draw(3, None), [5, 0, 1])


def test_dicts_stay_dicts_and_lists_become_arrays():
    sampler = mblsr1.LoaderSampler(lambda: [{"x": x, "y": y.tolist()} for x, y in loader(4, 2)])
    batch = sampler.draw(5, None)
    assert list(batch) == ["x", "y"]
    np.testing.assert_array_equal(batch["x"], np.arange(5))
    np.testing.assert_array_equal(batch["y"], 10.0 * np.arange(5))
    names = mblsr1.LoaderSampler(lambda: [(np.arange(2), ["a", "b"]), (np.arange(1), ["long"])]).draw(3, None)[1]
    assert names.tolist() == ["a", "b", "long"]


@pytest.mark.parametrize("wanted", [(4, 4, 4), (3, 3, 6), (12, 12), (5, 2, 5)])
def test_a_loader_may_use_its_arrays_again(wanted):
    def reusing():
        x, y = np.empty(4), np.empty(4)
        for start in (0, 4, 8):
            x[:], y[:] = np.arange(start, start + 4), 10.0 * np.arange(start, start + 4)
            yield x, y

    sampler = mblsr1.LoaderSampler(reusing)
    got = [sampler.draw(size, None) for size in wanted]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in got]), np.resize(np.arange(12), sum(wanted)))
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), 10.0 * np.resize(np.arange(12), sum(wanted)))


def test_a_generator_cannot_be_a_second_pass():
    source = iter(loader(3))
    sampler = mblsr1.LoaderSampler(lambda: source)
    sampler.draw(3, None)
    with pytest.raises(ValueError, match=r"^sampler: make_loader.. must return a fresh iterable at each call"):
        sampler.draw(1, None)


def test_another_run_goes_on_where_the_loader_is():
    sampler = mblsr1.LoaderSampler(lambda: loader(4, 4, 4))
    first, second = (sampler.draw(5, None)[0] for _ in range(2))
    np.testing.assert_array_equal(np.concatenate([first, second]), np.arange(10))


def test_a_loader_is_started_again_only_when_it_is_exhausted():
    starts = []
    sampler = mblsr1.LoaderSampler(lambda: starts.append(1) or iter(loader(3, 3)))
    assert starts == []
    sampler.draw(6, None)
    assert len(starts) == 1
    sampler.draw(1, None)
    assert len(starts) == 2


def test_batches_of_another_library_are_joined():
    xp = pytest.importorskip("array_api_strict")
    sampler = mblsr1.LoaderSampler(lambda: [xp.asarray(x) for x, _ in loader(2, 2)])
    np.testing.assert_array_equal(np.asarray(sampler.draw(3, None)), [0, 1, 2])


@pytest.mark.parametrize(
    ("batches", "error", "pattern"),
    [
        ([], ValueError, "make_loader.. must return a fresh iterable at each call, with one batch at least; got one"),
        (
            [(X, Y[:9])],
            ValueError,
            r"the arrays of a loader's batch must have the same number of rows, >= 1, got \[10, 9\]",
        ),
        ([X[:0]], ValueError, r"the same number of rows, >= 1, got \[0\]"),
        ([()], ValueError, r"the same number of rows, >= 1, got \[\]"),
        ([3.0], TypeError, "a loader's batch must be an array, or a tuple, list or dict of arrays with rows, got 3.0"),
        ([[1.0, 2.0]], TypeError, "a loader's batch must be .* of arrays with rows, got 1.0"),
        ([None], TypeError, "a loader's batch must be .* of arrays with rows, got None"),
        ([{"x": X, "name": "a"}], TypeError, "a loader's batch must be .* of arrays with rows, got str"),
        (
            [(scipy.sparse.csr_matrix(X), Y)],
            TypeError,
            "a loader's batch must be .* of arrays with rows, got csr_matrix",
        ),
        ([(X, [[1.0], [1.0, 2.0]])], TypeError, "a loader's batch must be .* with rows, got a list of unequal parts"),
        ([X[:2], (X[:2], Y[:2])], ValueError, "all batches of a loader must have the same form, got .*array.*tuple"),
        ([(X[:2], Y[:2]), (X[:2],)], ValueError, "all batches of a loader must have the same form"),
        ([{"x": X[:2]}, {"y": X[:2]}], ValueError, "all batches of a loader must have the same form"),
        (None, TypeError, "make_loader.. must return an iterable of batches, got NoneType"),
    ],
)
def test_bad_loaders(batches, error, pattern):
    with pytest.raises(error, match="^sampler: .*" + pattern):
        mblsr1.LoaderSampler(lambda: batches).draw(5, None)


@pytest.mark.parametrize("make", [None, 3, [np.ones(2)]])
def test_a_loader_must_be_made_by_a_function(make):
    with pytest.raises(TypeError, match=rf"^sampler: LoaderSampler needs a callable, got {type(make).__name__}"):
        mblsr1.LoaderSampler(make)


@pytest.mark.parametrize(("options", "size"), [(mblsr1.Options(), 2), (RESOLVING, 16)], ids=["overlap", "fresh"])
def test_a_run_on_a_loader(options, size):
    """The loss is asked for on the shared samples where batches overlap."""
    data = np.random.default_rng(0).standard_normal((64, 3))
    sampler = mblsr1.LoaderSampler(lambda: np.array_split(data, 9))
    sizes = []

    def fun(w, batch):
        sizes.append(len(batch))
        return float(np.mean((batch - w) ** 2))

    result = mblsr1.minimize(
        fun, lambda w, b: -2.0 * np.mean(b - w, axis=0) / 3, np.zeros(3), sampler, options=options,
        batch_size=16, max_steps=30, rng=0,
    )  # fmt: skip
    assert set(sizes) >= {size}
    np.testing.assert_allclose(result.x, data.mean(axis=0), atol=0.5)


# --- what counts as a sampler ----------------------------------------------------------------------


def test_what_a_sampler_is():
    assert checked_sampler(None) is None
    assert checked_sampler(7).n_samples == checked_sampler(np.int32(7)).n_samples == 7
    for sampler in (mblsr1.IndexSampler(3), mblsr1.ArraySampler(X), mblsr1.StreamSampler(lambda size, rng: 0)):
        assert checked_sampler(sampler) is sampler
        assert isinstance(sampler, Sampler)


def test_a_users_own_sampler_runs():
    class Cyclic:
        n_samples = 4

        def draw(self, size, rng):
            return list(range(size))

    result = mblsr1.minimize(
        lambda w, b: float(w @ w) * len(b),
        lambda w, b: 2.0 * w * len(b),
        np.ones(2),
        Cyclic(),
        batch_size=2,
        max_steps=50,
    )
    assert result.success

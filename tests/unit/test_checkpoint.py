"""States as trees and as files: any nested NamedTuple of arrays, numbers and text survives."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import mblsr1
from mblsr1.checkpoint import State, from_tree, to_tree
from mblsr1.linalg.pairs import PairMemory


class Inner(NamedTuple):
    vector: Any
    number: float
    nothing: Any = None


class Outer(NamedTuple):
    inner: Inner
    count: int


LIKE = np.zeros(3)


def there_and_back(tree, path):
    mblsr1.save_state(path, State(tree))
    return mblsr1.load_state(path).tree


NUMBERS = [
    0.1,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    math.pi,
    math.inf,
    -math.inf,
    2**127 + 1,
    -3,
    True,
    None,
    "text",
    "",
]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_numbers_and_text_are_exact(number, tmp_path):
    back = there_and_back({"a": {"b": number}}, tmp_path / "s")["a"]["b"]
    assert back == number
    assert type(back) is type(number)
    assert repr(back) == repr(number)


def test_nan_stays_nan(tmp_path):
    assert math.isnan(there_and_back({"a": math.nan}, tmp_path / "s")["a"])


@pytest.mark.parametrize("scalar", [np.float64(0.1), np.float32(0.1), np.int64(7), np.bool_(True)])
def test_numpy_scalars_become_python_numbers(scalar, tmp_path):
    back = there_and_back({"a": scalar}, tmp_path / "s")["a"]
    assert back == scalar
    assert type(back) in (float, int, bool)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u4", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_are_exact(dtype, shape, tmp_path):
    array = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    back = there_and_back({"x": {"y": {"z": array}}}, tmp_path / "s")["x"]["y"]["z"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


def test_the_path_is_used_as_it_is(tmp_path):
    for name in ("state", "state.npz", "state.ckpt"):
        mblsr1.save_state(tmp_path / name, State({"a": 1}))
        mblsr1.save_state(str(tmp_path / name), State({"a": 2}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state", "state.ckpt", "state.npz"]
    assert mblsr1.load_state(str(tmp_path / "state")).tree == {"a": 2}


def test_named_tuples_become_dicts_and_come_back():
    value = Outer(Inner(np.arange(3.0), 2.5), 4)
    tree = to_tree(value, copy=False)
    assert set(tree) == {"inner", "count"}
    assert set(tree["inner"]) == {"vector", "number", "nothing"}
    back = from_tree(Outer(Inner(LIKE, 0.0), 0), tree, LIKE)
    assert isinstance(back, Outer)
    assert isinstance(back.inner, Inner)
    assert (back.count, back.inner.number, back.inner.nothing) == (4, 2.5, None)
    np.testing.assert_array_equal(back.inner.vector, [0.0, 1.0, 2.0])


def test_a_copy_is_a_copy_and_what_comes_back_always_is():
    vector = np.arange(3.0)
    shared, copied = (to_tree(Inner(vector, 1.0), copy=copy)["vector"] for copy in (False, True))
    assert shared is vector
    assert not np.shares_memory(copied, vector)
    back = from_tree(Inner(None, 0.0), {"vector": vector, "number": 1.0, "nothing": None}, LIKE)
    assert not np.shares_memory(back.vector, vector)


def test_vectors_come_back_as_arrays_like_those_of_the_run():
    xp = pytest.importorskip("array_api_strict")
    for like in (np.zeros(3, dtype=np.float32), xp.zeros(3), xp.zeros(3, dtype=xp.float32)):
        back = from_tree(Inner(None, 0.0), {"vector": np.arange(3.0), "number": 1.0, "nothing": None}, like)
        assert type(back.vector) is type(like)
        assert back.vector.dtype == like.dtype


@pytest.mark.parametrize("pushed", [0, 1, 2, 3, 5])
def test_a_pair_memory_comes_back_with_its_order_and_its_pending_pair(pushed, tmp_path):
    rng = np.random.default_rng(1)
    memory = PairMemory(np.zeros(4), 3)
    for _ in range(pushed):
        memory.push(rng.standard_normal(4), rng.standard_normal(4))
    tree = there_and_back({"m": to_tree(memory, copy=True)}, tmp_path / "s")["m"]
    other = PairMemory(np.zeros(4), 3).restore(tree)
    assert (other.order, len(other), other.pending is None) == (memory.order, len(memory), memory.pending is None)
    g = rng.standard_normal(4)
    np.testing.assert_array_equal(other.project([g]), memory.project([g]))
    np.testing.assert_array_equal(other.gram, memory.gram)
    for a, b in zip(other.blocks(), memory.blocks(), strict=True):
        np.testing.assert_array_equal(a, b)
    before = tree["rows"].copy()
    other.push(rng.standard_normal(4), rng.standard_normal(4))
    other.project([])
    np.testing.assert_array_equal(tree["rows"], before)


def test_a_state_knows_its_iterate_and_its_step():
    result = mblsr1.minimize(lambda w: float(np.sum(w**4)), lambda w: 4.0 * w**3, np.ones((2, 3)), max_steps=2)
    assert result.state.step == 2
    assert result.state.x.shape == (2, 3)
    assert repr(result.state) == "State(method='mb-lsr1', step=2)"


class Empty(NamedTuple):
    pass


def test_an_empty_part_comes_back(tmp_path):
    tree = there_and_back({"a": to_tree(Empty(), copy=True), "b": {"c": {}}}, tmp_path / "s")
    assert tree == {"a": {}, "b": {"c": {}}}
    assert from_tree(Empty(), tree["a"], LIKE) == Empty()


@pytest.mark.parametrize("dtype", ["i4", "i8", "u1", "?"])
@pytest.mark.parametrize("template", [None, np.zeros(3)])
def test_integers_stay_integers(dtype, template):
    largest = np.iinfo(dtype).max if dtype != "?" else True
    whole = np.array([0, 1, largest], dtype=dtype)
    back = from_tree(Inner(template, 0.0), {"vector": whole, "number": 1.0, "nothing": None}, LIKE)
    assert back.vector.dtype == whole.dtype
    np.testing.assert_array_equal(back.vector, whole)


@pytest.mark.torch
def test_integers_stay_integers_in_torch_and_host_arrays_stay_on_the_host():
    torch = pytest.importorskip("torch")
    whole, sums = np.array([1, 2**62 + 1]), np.array([0.1, 0.2])
    template = Inner(None, 0.0, np.zeros(2))
    back = from_tree(template, {"vector": whole, "number": 1.0, "nothing": sums}, torch.zeros(3, dtype=torch.float32))
    assert back.vector.dtype == torch.int64
    assert back.vector.tolist() == whole.tolist()
    assert isinstance(back.nothing, np.ndarray)
    assert back.nothing.tobytes() == sums.tobytes()


def test_sums_in_double_precision_keep_it_beside_single_vectors():
    template = Inner(np.zeros(3), 0.0)
    back = from_tree(template, {"vector": np.full(3, 0.1), "number": 1.0, "nothing": None}, np.zeros(3, dtype="f4"))
    assert back.vector.dtype == np.float64
    assert back.vector.tolist() == [0.1] * 3


@pytest.mark.parametrize("value", [[np.ones(2)], 1j, {1, 2}, (np.ones(2), 1), object()], ids=type)
def test_an_entry_that_cannot_be_written_is_named(value, tmp_path):
    with pytest.raises(TypeError, match=r"^state: the entry 'inner/parts' must be an array, a number, text"):
        mblsr1.save_state(tmp_path / "s", State({"inner": to_tree({"parts": value}, copy=True)}))
    assert not list(tmp_path.iterdir())


def test_states_can_be_put_into_a_set():
    one, other = State({"a": np.ones(2)}), State({"a": np.ones(2)})
    assert len({one, other, one}) == 2
    assert one != other

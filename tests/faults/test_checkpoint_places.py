"""Where the file of a checkpoint is: places that no file can have, folders that change, files of others beside it."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import mblsr1
from mblsr1.checkpoint import State

PROBLEM = lambda w: float(np.sum(w**4)), lambda w: 4.0 * w**3, np.ones(3)
BAD_PATHS = [
    (None, TypeError, "must be the path of a file, got None"),
    (5, TypeError, "must be the path of a file, got 5"),
    (b"x.npz", TypeError, "must be the path of a file, got b'x.npz'"),
    ("a\0b", ValueError, r"must be the path of a file, got 'a\\x00b'"),
]


@pytest.fixture
def state():
    return mblsr1.minimize(*PROBLEM, max_steps=2).state


@pytest.mark.parametrize(("path", "error", "text"), BAD_PATHS)
def test_what_is_no_path(path, error, text, state):
    with pytest.raises(error, match=f"^path: {text}"):
        mblsr1.save_state(path, state)
    with pytest.raises(error, match=f"^path: {text}"):
        mblsr1.load_state(path)
    if path is not None:
        with pytest.raises(error, match=f"^checkpoint: {text}"):
            mblsr1.minimize(*PROBLEM, max_steps=2, checkpoint=path)


def test_a_folder_and_a_folder_that_is_not_there(state, tmp_path):
    for path in (tmp_path, tmp_path / "none" / "x.npz", ""):
        with pytest.raises(ValueError, match=r"^path: must be a file in a folder that exists, got '"):
            mblsr1.save_state(path, state)
        with pytest.raises(ValueError, match=r"^checkpoint: must be a file in a folder that exists, got '"):
            mblsr1.minimize(*PROBLEM, checkpoint=path)
    with pytest.raises(OSError, match=r"'.*'$"):
        mblsr1.load_state(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_too_long(state, tmp_path):
    with pytest.raises(ValueError, match=r"^path: must be the path of a file, got 'a+' \(File name too long\)"):
        mblsr1.save_state("a" * 300, state)
    with pytest.raises(ValueError, match=r"^checkpoint: must be the path of a file, got 'a+' \(File name too long\)"):
        mblsr1.minimize(*PROBLEM, checkpoint="a" * 300)
    with pytest.raises(OSError, match=r"^checkpoint: '.*' was not written: .*File name too long"):
        mblsr1.minimize(*PROBLEM, checkpoint=tmp_path / ("a" * 250))  # fits, but not with what it is called meanwhile


@pytest.mark.parametrize("call", [mblsr1.minimize, mblsr1.iterate])
def test_a_place_that_cannot_be_written_is_an_error_before_the_first_step(call, tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(OSError, match=r"^checkpoint: '.*file' was not written: .*Permission denied"):
        call(lambda w: pytest.fail("evaluated"), *PROBLEM[1:], checkpoint=tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_run_that_changes_the_folder_writes_where_it_was_called(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def callback(step):
        os.chdir(tmp_path / "there")

    mblsr1.minimize(*PROBLEM, max_steps=3, gtol=0.0, callback=callback, checkpoint="file")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("file")] == ["here/file"]
    assert mblsr1.load_state(tmp_path / "here" / "file").step == 3


def test_files_of_others_stay(tmp_path):
    """What is removed has the name that half a file has, and is a file."""
    others = [
        "cp.npz.2024.part",
        "cp.npz.0123ABCD.part",
        "cp.npz.0123abcd.part.gz",
        "cp.npz.0123abcde.part",
        "x.0123abcd.part",
    ]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "cp.npz.01234567.part").mkdir()
    (tmp_path / "cp.npz.89abcdef.part").write_text("half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mblsr1.minimize(*PROBLEM, max_steps=1, checkpoint=tmp_path / "cp.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, "cp.npz.01234567.part", "cp.npz"])


def test_half_a_file_beside_the_target_of_a_link_is_removed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file.0123abcd.part").write_text("half")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    mblsr1.minimize(*PROBLEM, max_steps=1, checkpoint=tmp_path / "link")
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"hello", b"", b"\x80\x04K\x01."], ids=["text", "empty", "pickle"])
def test_no_advice_to_allow_pickles_reaches_the_user(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"not a complete state of mblsr1 \(it is no \.npz file, or only a part of one\)"
    ):
        mblsr1.load_state(path)
    with path.open("wb") as file:
        np.savez(file, mblsr1=np.array([None]))
    with pytest.raises(ValueError, match=r"not a complete state of mblsr1 \(it holds objects of Python\)"):
        mblsr1.load_state(path)


def test_a_file_whose_state_is_no_tree_is_refused(tmp_path):
    from mblsr1 import state_file

    state_file.write(tmp_path / "file", {"state": 5})
    with pytest.raises(ValueError, match=r"^path: '.*file' is not a complete state of mblsr1 \(it holds no state\)"):
        mblsr1.load_state(tmp_path / "file")
    mblsr1.save_state(tmp_path / "file", State({"a": 1}))
    assert mblsr1.load_state(tmp_path / "file").tree == {"a": 1}

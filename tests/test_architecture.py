"""The rules of the house, read from the syntax tree of the sources."""

import ast
import inspect
from pathlib import Path

import pytest

import mblsr1

ROOT = Path(mblsr1.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

#: Array libraries are known here alone.
ADAPTER = "_array.py"
#: The adapter for torch is a folder.
OF_TORCH = ("__init__", "closures", "course", "draws", "flat", "given", "module", "optimizer", "saved")
#: Around the solver, for users of one library: what each may import of them.
OUTER: dict[str, set[str]] = {f"torch/{name}.py": {"torch"} for name in OF_TORCH} | {
    "jax.py": {"jax"}, "scipy.py": set(),
    "sklearn/__init__.py": set(), "sklearn/model.py": set(), "sklearn/classifier.py": set(),
    "sklearn/regressor.py": set(), "sklearn/network.py": set(), "sklearn/training.py": set(),
    "distributed/__init__.py": set(), "distributed/communicator.py": {"torch"}, "distributed/blocks.py": set(),
    "distributed/oracle.py": set(), "distributed/sampler.py": set(), "distributed/vectors.py": set(),
    "plotting.py": set(), "callbacks.py": {"torch"},
}  # fmt: skip
#: Host numbers: k x k matrices, index arrays, files, the demonstration's own network; and the kernels of NumPy vectors.
HOST_NUMBERS = ("linalg/", "sampling.py", "checkpoint.py", "state_file.py", "demo.py", "_kernels.py", "_reduction.py")
#: Elsewhere NumPy is the random generator and the precision of a float, never a function of a vector.
SCALARS_ALONE = {"random", "finfo", "float64"}
LIBRARIES = {"array_api_compat", "torch", "jax", "cupy", "array_api_strict"}


def names(tree):
    """Every identifier: names, arguments, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr


def imported(tree):
    """Top-level names of imported packages, at any depth of the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def numpy_attributes(tree):
    """`np.something` for the name under which NumPy is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy"):
            yield node.attr


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function):
    """Lines from the first statement after the docstring to the last."""
    body = function.body
    has_docstring = ast.get_docstring(function, clean=False) is not None
    body = body[1:] if has_docstring else body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_the_sources_are_found():
    assert {"_array.py", "minimize.py", "linalg/lsr1.py", "rules/radius.py"} <= set(TREES)


@pytest.mark.parametrize("path", [p for p in TREES if p != ADAPTER])
def test_only_the_adapter_knows_array_namespaces(path):
    found = set(names(TREES[path]))
    assert not found & {"xp", "namespace", "array_namespace", "__array_namespace__"}
    assert LIBRARIES & set(imported(TREES[path])) <= OUTER.get(path, set())


@pytest.mark.parametrize("path", [p for p in TREES if p not in {ADAPTER, *OUTER} and not p.startswith(HOST_NUMBERS)])
def test_numpy_touches_no_vector_outside_the_adapter(path):
    assert set(numpy_attributes(TREES[path])) <= SCALARS_ALONE
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("numpy", "scipy"):
            assert {alias.name for alias in node.names} <= {"NDArray", "OptimizeResult"}


@pytest.mark.parametrize("path", TREES)
def test_functions_are_short(path):
    too_long = {f.name: body_lines(f) for f in functions(TREES[path]) if body_lines(f) > 50}
    assert not too_long


@pytest.mark.parametrize("path", TREES)
def test_files_are_short(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("name", mblsr1.__all__)
def test_public_names_are_documented(name):
    """numpydoc sections where there is something to list; a module or an exception-like enum says it in prose."""
    thing = getattr(mblsr1, name)
    text = inspect.getdoc(thing) or ""
    assert len(text) > 20
    if inspect.ismodule(thing):
        for public in filter(inspect.isfunction, map(thing.__dict__.get, thing.__all__)):
            assert inspect.getdoc(public)
        return
    assert any(f"{title}\n{'-' * len(title)}" in text for title in ("Parameters", "Attributes", "Examples")), name


@pytest.mark.parametrize("name", [n for n in mblsr1.__all__ if inspect.isfunction(getattr(mblsr1, n))])
def test_parameters_of_public_functions_are_described(name):
    """Every parameter that a caller can name is in the docstring."""
    function = getattr(mblsr1, name)
    text = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.name in text, f"{name}: {parameter.name}"


def test_no_file_of_the_package_names_a_place_of_one_machine():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not any(place in text for place in ("/home/", "/root/", "C:\\\\"))


def test_test_files_have_names_of_their_own():
    """Two of one name cannot be collected together, and a session that skips one of them does not show it."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))

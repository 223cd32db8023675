"""Everything that a developer runs: ``python -m nox -s NAME``."""

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types"]
nox.options.default_venv_backend = "venv"

TESTS = ["pytest>=8", "pytest-xdist", "hypothesis>=6.100", "mpmath", "array-api-strict>=2.2", "tensorboard"]

#: An MPI library, for what runs under mpiexec.
MPI = ["mpich", "mpi4py>=4"]

#: What `backends` installs for a library; CuPy needs an NVIDIA GPU.
LIBRARIES = {"torch": "torch==2.13.0", "jax": "jax", "cupy": "cupy-cuda12x"}

#: What the adapter of a library is tested with.
USED_WITH = {"torch": ["lightning>=2.4"]}


@nox.session
def tests(session: nox.Session) -> None:
    """Unit, property and driver tests, and the examples in the docstrings."""
    session.install("-e", ".[demo,watch]", *TESTS, *MPI)
    session.run("pytest", "-n", "auto", *(session.posargs or ["tests"]), env={"HYPOTHESIS_PROFILE": "ci"})
    if not session.posargs:
        session.run(
            "pytest", "--doctest-modules", "--doctest-ignore-import-errors", "src/mblsr1", "--ignore=src/mblsr1/demo.py"
        )


@nox.session
def backends(session: nox.Session) -> None:
    """Run the tests that know array libraries in torch and JAX; ``-- torch``, ``-- jax``, ``-- cupy`` in one alone."""
    chosen = session.posargs or ["torch", "jax"]
    if not set(chosen) <= set(LIBRARIES):
        session.error(f"backends: the libraries are {', '.join(LIBRARIES)}; got {' '.join(chosen)}")
    used = [package for name in chosen for package in USED_WITH.get(name, [])]
    session.install("-e", ".", *TESTS, *MPI, *(LIBRARIES[name] for name in chosen), *used)
    session.run("pytest", "-n", "auto", "-m", " or ".join(chosen), "tests", env={"HYPOTHESIS_PROFILE": "ci"})


@nox.session
def distributed(session: nox.Session) -> None:
    """Runs under mpiexec on 1, 2 and 4 ranks, in a gloo group of torch, on 8 devices of JAX; MPI comes from PyPI."""
    session.install("-e", ".", *TESTS, *MPI, LIBRARIES["torch"], LIBRARIES["jax"])
    session.run("pytest", "tests/distributed", *session.posargs, env={"HYPOTHESIS_PROFILE": "ci"})


@nox.session
def scaling(session: nox.Session) -> None:
    """Measure steps on 1, 2 and 4 ranks and write docs/scaling.md."""
    session.install("-e", ".", *MPI, "matplotlib")
    session.run("python", "-m", "benchmarks.scaling", *session.posargs)


@nox.session
def seeds(session: nox.Session) -> None:
    """Run the theorems' tests over many seeds; ``-- 500`` sets how many. About ten seconds a seed on one core."""
    session.install("-e", ".", *TESTS)
    count = session.posargs[0] if session.posargs else "100"
    env = {"MBLSR1_SEEDS": count, "HYPOTHESIS_PROFILE": "thorough"}
    session.run("pytest", "-n", "auto", "tests/theorems", "tests/properties", env=env)


@nox.session
def mutation(session: nox.Session) -> None:
    """Change linalg and rules one spot at a time and see whether a test fails; figures into docs/testing.md.

    What has been run is kept in mutants/. ``-- again`` runs the survivors once more, ``-- 'mblsr1.rules.exit*'`` what
    it names.
    """
    session.install("-e", ".", *TESTS, "mutmut>=3.8,<4")
    names = session.posargs
    if names == ["again"]:
        Path("mutants/mutmut-stats.json").unlink(missing_ok=True)  # which test calls which function
        names = str(session.run("python", "tests/figures.py", "survivors", silent=True)).split()
    session.run("mutmut", "run", *names, env={"HYPOTHESIS_PROFILE": "mutation"})
    session.run("python", "tests/figures.py", "mutation")


@nox.session
def coverage(session: nox.Session) -> None:
    """Statements and branches of src that the tests run; figures into docs/testing.md, floors 98 % and 95 %."""
    session.install("-e", ".[demo]", *TESTS, "pytest-cov", *MPI, LIBRARIES["torch"], LIBRARIES["jax"])
    measure = ("--cov", "--cov-report=term-missing:skip-covered", "--cov-report=json")
    session.run("pytest", "-n", "auto", *measure, "tests", env={"HYPOTHESIS_PROFILE": "ci"})
    session.run("python", "tests/figures.py", "coverage")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and which layer may import which."""
    session.install("ruff>=0.6", "import-linter>=2", "-e", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Static types of the package, strictly."""
    session.install("mypy>=1.11", "-e", ".[demo]")
    session.run("mypy")


@nox.session
def audit(session: nox.Session) -> None:
    """Licences of all dependencies, and known vulnerabilities where the service that knows them can be asked."""
    session.install("-e", ".[demo]", "packaging", "pip-audit>=2.7")
    session.run("python", "tests/audit.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples and build the pages in docs/_build; a warning is an error."""
    session.install("-e", ".[docs]", LIBRARIES["torch"])
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel, and run the README's first snippet with it."""
    session.install("build")
    folder = Path(session.create_tmp()) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    (wheel,) = folder.glob("*.whl")
    session.install("--force-reinstall", str(wheel))
    snippet = Path("README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    check = (
        "from importlib.metadata import version\n"
        "assert version('mblsr1') == mblsr1.__version__, mblsr1.__version__\n"
        "assert 'site-packages' in mblsr1.__file__, mblsr1.__file__\n"
        "assert result.fun < 0.05, result.fun\n"
    )
    with session.chdir(session.create_tmp()):  # where no source can be imported
        session.run("python", "-c", snippet + check)


@nox.session
def demo(session: nox.Session) -> None:
    """Train a small classifier with four methods."""
    session.install(".[demo]")
    session.run("python", "-m", "mblsr1", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the algebra in one thread and write docs/performance.md; ``-- quick`` prints few small cases alone."""
    session.install("-e", ".[demo]", LIBRARIES["torch"])
    session.run("python", "-m", "benchmarks.micro", *session.posargs)


@nox.session
def tune(session: nox.Session) -> None:
    """Run the development bench: ``-- deterministic``, ``-- stochastic``, ``-- report``; finished runs are kept."""
    session.install("-e", ".[bench]", LIBRARIES["torch"])
    session.run("python", "-m", "benchmarks.tune", *session.posargs)


@nox.session
def experiments(session: nox.Session) -> None:
    """Run the paper's experiments: ``-- figure1``, ``-- ablation``, ...; ``-- report`` draws and writes the page."""
    session.install("-e", ".[demo]", LIBRARIES["torch"], "pillow", "imbalanced-learn")
    session.run("python", "-m", "benchmarks.experiments", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Make 1,000,000 steps on a small stream and write docs/reliability.md; ``-- --steps 10000 --print`` is quick."""
    session.install("-e", ".")
    session.run("python", "-m", "benchmarks.soak", *session.posargs)


@nox.session
def kfac(session: nox.Session) -> None:
    """Run K-FAC on the bench's tasks with fully connected networks; kfac-jax does not run with JAX 0.8 and later."""
    session.install("-e", ".", "kfac-jax==0.0.8", "jax<0.8", "torch==2.13.0", "pytorch-optimizer", "pillow")
    chosen = ("stochastic", "--only", "mnist,cifar10 8x8", "--methods", "K-FAC")
    session.run("python", "-m", "benchmarks.tune", *chosen, *session.posargs)

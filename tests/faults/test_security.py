"""Nothing is unpickled or evaluated, no process or connection is opened: read from the syntax tree of the sources."""

import ast
import importlib.metadata
import subprocess
from pathlib import Path

import pytest

import mblsr1

ROOT = Path(mblsr1.__file__).parent
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}
MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "ctypes", "subprocess",
    "socket", "urllib", "http", "requests", "ftplib", "yaml", "runpy", "multiprocessing", "pty",
}  # fmt: skip
#: Names under which libraries are imported that unpickle where they may.
LOADERS = {"", "np", "numpy", "torch", "jnp", "jax"}
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
#: Methods of modules that open what they read as code, or start something.
METHODS = {
    "system",
    "popen",
    "execv",
    "execve",
    "spawnl",
    "spawnv",
    "fromfile",
    "read_pickle",
    "literal_eval",
    "unsafe_load",
}


def dangers(tree):
    """What a source must not contain."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from {alias.name.split(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from {(node.module or "").split(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            yield from _dangers_of_call(node)


def _dangers_of_call(node):
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    owned = getattr(node.func, "value", None)
    owner = "" if owned is None else owned.id if isinstance(owned, ast.Name) else "(another)"
    keywords = {k.arg: k.value for k in node.keywords}
    if isinstance(node.func, ast.Name) and name in CALLS:
        yield name
    if isinstance(node.func, ast.Attribute) and name in METHODS:
        yield name
    if name == "load" and owner in LOADERS and not _is(keywords.get("allow_pickle"), False):
        yield f"{owner}.load"
    if name in ("save", "savez") and "allow_pickle" in keywords and not _is(keywords["allow_pickle"], False):
        yield f"{name} with pickle"


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", TREES)
def test_a_source_opens_nothing_that_could_be_code(path):
    assert list(dangers(TREES[path])) == []


DANGEROUS = [
    "import pickle", "from pickle import loads", "import os\nos.system('ls')", "eval('1')", "exec('1')", "load(f)",
    "np.load(f)", "np.load(f, allow_pickle=True)", "torch.load(f)", "np.save(f, x, allow_pickle=True)",
    "import subprocess as s", "def f():\n    import socket", "import urllib.request",
]  # fmt: skip


@pytest.mark.parametrize("source", DANGEROUS)
def test_the_test_finds_what_it_looks_for(source):
    assert list(dangers(ast.parse(source)))


# --- the audit of the dependencies ----------------------------------------------------------------------

audit = pytest.importorskip("audit", exc_type=ImportError)

LICENCES = {
    "MIT": [], "BSD-3-Clause AND 0BSD": [], "License :: OSI Approved :: BSD License": [],
    "GPL-3.0-only": ["gpl-3.0-only"],
    "Apache-2.0 AND GPL-3.0-only": ["gpl-3.0-only"], "none": ["none"], "": ["none"], "Proprietary": ["proprietary"],
    "License :: OSI Approved :: GNU General Public License v3 (GPLv3)": ["gplv3"],
    "LGPL with BSD parts": ["lgpl with bsd parts"],
}  # fmt: skip


@pytest.mark.parametrize(("text", "bad"), LICENCES.items())
def test_licences(text, bad):
    assert set(bad) <= set(audit.refused(text))
    assert bool(audit.refused(text)) == bool(bad)


def test_the_closure_has_the_dependencies_and_theirs():
    names = set(audit.closure())
    assert {"numpy", "scipy", "tqdm", "array-api-compat"} <= names
    assert "mblsr1" not in names


REPORT = """{"dependencies": [
    {"name": "safe", "version": "1", "vulns": []}, {"name": "unknown", "skip_reason": "not found"},
    {"name": "bad", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}]}"""


def test_what_the_audit_makes_of_reports_and_of_silence(monkeypatch):
    packages = {name: importlib.metadata.distribution("numpy") for name in ("safe", "unknown", "bad")}

    def answering(text, error=None):
        def run(command, **how):
            if error is not None:
                raise error
            if text:
                Path(command[command.index("--output") + 1]).write_text(text)
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no route to host")

        return run

    monkeypatch.setattr(audit.subprocess, "run", answering(REPORT))
    known, unchecked = audit.audited(packages)
    assert known == ["bad 1.0: CVE-1 (mended in 1.1)"]
    assert unchecked == "the service does not know 1 of 3 packages: unknown"
    monkeypatch.setattr(audit.subprocess, "run", answering(""))
    assert audit.audited(packages) == ([], "ERROR: no route to host")
    monkeypatch.setattr(audit.subprocess, "run", answering("", subprocess.TimeoutExpired("pip_audit", 1)))
    assert audit.audited(packages) == ([], "no answer within 180 seconds")


@pytest.mark.parametrize(
    ("known", "unchecked", "fails"), [([], "", False), ([], "no route", False), (["bad"], "", True)]
)
def test_a_vulnerability_fails_and_an_unreachable_service_does_not(known, unchecked, fails, monkeypatch, capsys):
    monkeypatch.setattr(audit, "closure", lambda: {"numpy": importlib.metadata.distribution("numpy")})
    monkeypatch.setattr(audit, "audited", lambda packages: (known, unchecked))
    if fails:
        with pytest.raises(SystemExit, match="bad"):
            audit.main()
    else:
        audit.main()
    assert ("VULNERABILITIES NOT CHECKED: no route" in capsys.readouterr().out) == bool(unchecked)

"""What this package depends on: its licences, and the vulnerabilities that are known of it.

``python tests/audit.py`` looks at mblsr1 as it is installed, with all that its extras have brought. It fails on a
licence that is not on the list and on a known vulnerability. Where the service that knows them cannot be reached, or
does not know a package, it says so and does not fail: that is no news of the package.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "mblsr1"
SECONDS = 180
#: May be used by BSD-licensed software without a condition on that software; each is a word of a licence expression.
ALLOWED = {
    "0bsd", "apache-2.0", "apache-2.0 with llvm-exception", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0",
    "hpnd", "isc", "mit", "mit-cmu", "mpl-2.0", "psf-2.0", "python-2.0", "unlicense", "zlib",
    # a runtime library, whose exception allows any program to use it
    "gpl-3.0-or-later with gcc-exception-3.1",
}  # fmt: skip
#: Classifiers and free texts of packages without a licence expression.
MEANING = [
    (r"\bBSD\b", "bsd-3-clause"), (r"\bApache\b", "apache-2.0"), (r"\bMIT\b", "mit"), (r"Mozilla|MPL", "mpl-2.0"),
    (r"Python Software Foundation|\bPSF\b|matplotlib", "psf-2.0"), (r"\bISC\b", "isc"), (r"\bHPND\b", "hpnd"),
]  # fmt: skip


def closure(package: str = PACKAGE) -> dict[str, metadata.Distribution]:
    """The package's dependencies that are installed, of its extras too, and theirs."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(package, set(metadata.metadata(package).get_all("Provides-Extra") or []))]
    while waiting:
        name, extras = waiting.pop()
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            key = canonicalize_name(requirement.name)
            if key in found or key == canonicalize_name(PACKAGE) or not applies(requirement, extras):
                continue
            try:
                found[key] = metadata.distribution(requirement.name)
            except metadata.PackageNotFoundError:
                continue  # an extra that was not asked for
            waiting.append((requirement.name, requirement.extras))
    return found


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement holds on this machine with one of these extras, or without any."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**default_environment(), "extra": extra}) for extra in {"", *extras})


def licence(distribution: metadata.Distribution) -> str:
    """The licence expression, or what stands in its place."""
    info = distribution.metadata
    if info.get("License-Expression"):
        return str(info["License-Expression"])
    classifiers = [c for c in info.get_all("Classifier") or [] if c.startswith("License ::")]
    return "; ".join(classifiers) or str(info.get("License") or "none").splitlines()[0]


def words(text: str) -> Iterator[str]:
    """The licences of an expression; a free text counts as the one that it names."""
    for part in re.split(r"\s+(?:AND|OR)\s+|[();]", text):
        word = part.strip()
        if word and word.lower() not in ALLOWED:
            meant = [spdx for pattern, spdx in MEANING if re.search(pattern, word)]
            yield meant[0] if meant and not re.search(r"\b[AL]?GPL", word) else word.lower()
        elif word:
            yield word.lower()


def refused(text: str) -> list[str]:
    """The licences in `text` that are not on the list."""
    found = list(words(text))
    return [word for word in found if word not in ALLOWED] if found else ["none"]


def vulnerabilities(report: str) -> tuple[list[str], list[str]]:
    """What pip-audit's JSON report tells, a line each, and the packages that were not checked."""
    packages = json.loads(report)["dependencies"]
    known = [
        f"{package['name']} {package.get('version', '')}: {known['id']} (mended in {', '.join(known['fix_versions'])})"
        for package in packages
        for known in package.get("vulns", [])
    ]
    return known, [package["name"] for package in packages if "skip_reason" in package]


def audited(packages: dict[str, metadata.Distribution]) -> tuple[list[str], str]:
    """What is known of the packages, and what was not checked or why nothing was."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "requirements.txt", Path(folder) / "report.json"
        wanted.write_text("".join(f"{name}=={found.version.split('+')[0]}\n" for name, found in packages.items()))
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", wanted, "--no-deps", "--disable-pip",
            "--format", "json", "--output", report, "--progress-spinner", "off", "--timeout", "15",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return [], f"no answer within {SECONDS} seconds"
        if not report.is_file() or not report.read_text():
            return [], (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        known, skipped = vulnerabilities(report.read_text())
    if not skipped:
        return known, ""
    return known, f"the service does not know {len(skipped)} of {len(packages)} packages: {', '.join(skipped)}"


def main() -> None:
    """Print what was found; exit with 1 where something must be done."""
    packages = closure()
    bad = {name: refused(licence(found)) for name, found in sorted(packages.items())}
    for name, found in sorted(packages.items()):
        print(f"{name} {found.version}: {licence(found)}")
    problems = [f"{name}: licence not on the list: {', '.join(words)}" for name, words in bad.items() if words]
    known, unchecked = audited(packages)
    problems += known
    print(f"{len(packages)} packages, {len(known)} known vulnerabilities")
    if unchecked:
        print(f"VULNERABILITIES NOT CHECKED: {unchecked}")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()

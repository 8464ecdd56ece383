"""Remove packages that the project needs for its development alone from the environment of this
Python, and pip: for an image that only serves. With --list, print them and remove nothing.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path("pyproject.toml")


def needed(roots: Iterable[str]) -> set[str]:
    """The installed packages that some requirements need, by canonical name."""
    names: set[str] = set()
    open_requirements = [Requirement(root) for root in roots]
    visited: set[tuple[str, frozenset[str]]] = set()
    while open_requirements:
        requirement = open_requirements.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in visited:
            continue
        visited.add((name, extras))
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # the lock has what the project needs
            continue
        names.add(name)
        open_requirements += [
            dependency for dependency in map(Requirement, required) if applies(dependency, extras)
        ]
    return names


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether a package with these extras has a requirement, on this machine."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


def main() -> None:
    """Remove the packages, or list them."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    installed = {canonicalize_name(package.name) for package in metadata.distributions()}
    superfluous = sorted(installed - needed([project["name"], *project["dependencies"]]))
    if sys.argv[1:] == ["--list"]:
        print("\n".join(superfluous))
        return
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "--yes", *superfluous], check=True)


if __name__ == "__main__":
    main()

"""Which of the project's own files a module imports, directly or through others, read as text."""

import ast
from pathlib import Path

from tests import ROOT


def closure(module: str) -> set[str]:
    """Repository-relative paths of everything local that importing `module` runs."""
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        path = _path(name)
        if path is None or str(path.relative_to(ROOT)) in found:
            continue
        found.add(str(path.relative_to(ROOT)))
        parents = name.split(".")[:-1]
        pending += [".".join(parents[: end + 1]) for end in range(len(parents))]
        pending += _imported(path)
    return found


def _path(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def _imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] == "pipeline"]

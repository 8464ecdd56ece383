"""The project's own source files that a module runs, and their digest.

A remembered result is valid only for the code that computed it. Neither DVC (treeverse/dvc#9195)
nor the memo sees imports, so both use this function.
"""

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.core import atomic, project

Names = Mapping[str, list[str]]
"""What files import, by the sha256 of their bytes."""

MAX_REMEMBERED = 5000  # files; older versions of files are among them
PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def imported_files(*modules: str) -> tuple[str, ...]:
    """The files that may run when `modules` are imported and their functions called.

    Imports inside functions are followed, those below `if TYPE_CHECKING` are not.

    Returns:
        Paths relative to the repository, such as "pipeline/core/atomic.py", sorted.
    """
    files: set[str] = set()
    visited: set[str] = set()
    remembered, names = _read_remembered(), dict[str, list[str]]()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module in visited or module.partition(".")[0] != PACKAGE.name:
            continue
        visited.add(module)
        pending.append(module.rpartition(".")[0])
        if path := _path(module):
            files.add(path.relative_to(PACKAGE.parent).as_posix())
            content = path.read_bytes()
            key = hashlib.sha256(content).hexdigest()
            names[key] = remembered.get(key) or list(_imports(ast.parse(content)))
            pending += names[key]
    if names.keys() - remembered.keys():
        _remember(names, remembered)
    return tuple(sorted(files))


def digest(*modules: str) -> str:
    """Digest of the paths and bytes of `imported_files(*modules)`, in hex."""
    digest = hashlib.sha256()
    for name in imported_files(*modules):
        content = (PACKAGE.parent / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _memory() -> Path:
    """Where the imports of files are remembered: to parse a hundred files takes 0.2 s.

    Another version of this module, or of Python, may find others.
    """
    facts = f"{sys.version} ".encode() + Path(__file__).read_bytes()
    return project.cache() / "imports" / f"{hashlib.sha256(facts).hexdigest()[:20]}.json"


def _read_remembered() -> Names:
    """What is remembered; nothing if the file is missing or damaged."""
    with suppress(OSError, ValueError):
        digest, _, text = _memory().read_text("utf-8").partition("\n")
        if digest == hashlib.sha256(text.encode()).hexdigest():
            names: Names = json.loads(text)
            return names
    return {}


def _remember(names: Names, others: Names) -> None:
    if len(names) + len(others) <= MAX_REMEMBERED:
        names = {**others, **names}
    text = json.dumps(names)
    with suppress(OSError):  # a folder that cannot be written: then they are parsed every time
        atomic.write_text(_memory(), f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def _path(module: str) -> Path | None:
    """The file of a module; None for folders without __init__.py and for names in a module."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    files = (base / "__init__.py", base.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _imports(node: ast.AST) -> Iterator[str]:
    """The names that statements below `node` import: of modules, or of what modules define."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for statement in node.orelse:
            yield from _imports(statement)
    elif not isinstance(node, ast.expr):
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)

"""The project's own source files that a module runs, and their digest.

A remembered result is valid only for the code that computed it. DVC does not see imports
(treeverse/dvc#9195), and neither does a memo, so both are told by the same function.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def imported_files(*modules: str) -> tuple[str, ...]:
    """The files that importing `modules` and calling their functions may run.

    Imports are followed through functions too, but not below `if TYPE_CHECKING`.

    Returns:
        Paths relative to the repository, such as "pipeline/core/shards.py", sorted.
    """
    files: dict[str, None] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        path = _path(module)
        if path is None or (name := path.relative_to(PACKAGE.parent).as_posix()) in files:
            continue
        files[name] = None
        pending += [module.rpartition(".")[0], *_imports(ast.parse(path.read_bytes()))]
    return tuple(sorted(files))


def digest(*modules: str) -> str:
    """Digest of `imported_files(*modules)`, their paths and their bytes, in hex."""
    digest = hashlib.sha256()
    for name in imported_files(*modules):
        content = (PACKAGE.parent / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _path(module: str) -> Path | None:
    """The file of a module of this package; None for others, and for names inside a module."""
    root, *parts = module.split(".")
    if root != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    files = (base / "__init__.py", base.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _imports(node: ast.AST) -> Iterator[str]:
    """Names that are imported below `node`: of modules, or of what is in them."""
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

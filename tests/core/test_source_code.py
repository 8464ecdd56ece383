import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.core import source_code
from pipeline.core.source_code import digest, imported_files
from tests import ROOT

Write = Callable[[str, str], None]
PARSE = ast.parse

PRINT_LOADED_FILES = """
import importlib, sys
importlib.import_module(sys.argv[1])
for name, module in sys.modules.items():
    if name.split(".")[0] == "pipeline" and module.__file__:
        print(module.__file__)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file of a package `shop`, the package that `source_code` reads."""
    monkeypatch.setattr(source_code, "PACKAGE", tmp_path / "shop")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def write(path: str, text: str) -> None:
        file = tmp_path / "shop" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        imported_files.cache_clear()

    write("__init__.py", "")
    yield write
    imported_files.cache_clear()


@pytest.mark.parametrize(
    "module", ["pipeline.stages.filter.judge_all", "pipeline.inference.mlflow_model"]
)
def test_every_file_that_python_loads_is_listed(module: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", PRINT_LOADED_FILES, module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {Path(line).relative_to(ROOT).as_posix() for line in process.stdout.splitlines()}
    assert len(loaded) > 5
    assert loaded <= set(imported_files(module))


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("import shop.till\n", {"till.py"}),
        ("import os, shop.till as till\n", {"till.py"}),
        ("from shop import till\n", {"till.py"}),
        ("from shop.till import open\n", {"till.py"}),
        ("from shop.goods import shoes\n", {"goods/__init__.py", "goods/shoes.py"}),
        ("import shop.goods.shoes\n", {"goods/__init__.py", "goods/shoes.py"}),
        ("from shop.depot import crate\n", {"depot/crate.py"}),
        ("def sell():\n    from shop import till\n", {"till.py"}),
        ("class Sale:\n    def end(self):\n        import shop.till\n", {"till.py"}),
        ("try:\n    import shop.till\nexcept ImportError:\n    pass\n", {"till.py"}),
        ("for _ in ():\n    pass\nelse:\n    import shop.till\n", {"till.py"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shop.till\n", set()),
        ("import typing\nif typing.TYPE_CHECKING:\n    import shop.till\n", set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import shop.till\n", {"till.py"}),
        ("import till\nfrom shops import till\nfrom shop import name\n", set()),
        ("text = 'import shop.till'\n", set()),
    ],
)
def test_imports_are_followed_but_not_those_for_type_checkers(
    write: Write, text: str, files: set[str]
) -> None:
    write("till.py", "")
    write("goods/__init__.py", "")
    write("goods/shoes.py", "")
    write("depot/crate.py", "")  # a folder without __init__.py
    write("clerk.py", text)
    paths = {f"shop/{name}" for name in files | {"__init__.py", "clerk.py"}}
    assert set(imported_files("shop.clerk")) == paths


def test_imports_are_followed_from_file_to_file_also_in_a_circle(write: Write) -> None:
    write("a.py", "import shop.b\n")
    write("b.py", "import shop.c\n")
    write("c.py", "import shop.a\n")
    assert imported_files("shop.a") == ("shop/__init__.py", "shop/a.py", "shop/b.py", "shop/c.py")
    assert imported_files("shop.c") == imported_files("shop.a")


def test_a_module_in_a_folder_without_init_lists_the_package(write: Write) -> None:
    write("depot/crate.py", "")
    assert imported_files("shop.depot.crate") == ("shop/__init__.py", "shop/depot/crate.py")


def test_the_digest_changes_with_any_byte_of_a_listed_file_and_of_no_other(write: Write) -> None:
    write("clerk.py", "from shop import till\n")
    write("till.py", "price = 1\n")
    write("depot.py", "boxes = 1\n")
    before = digest("shop.clerk")
    write("depot.py", "boxes = 2\n")
    assert digest("shop.clerk") == before
    write("till.py", "price = 2\n")
    assert digest("shop.clerk") != before


def test_the_digest_changes_when_a_listed_file_moves(write: Write) -> None:
    write("a.py", "")
    write("b.py", "")
    assert digest("shop.a") != digest("shop.b")


def test_a_file_is_parsed_once_for_each_of_its_contents(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def parse(content: bytes) -> ast.AST:
        parsed.append(content)
        return PARSE(content)

    monkeypatch.setattr(ast, "parse", parse)
    write("till.py", "import shop.coin\n")
    write("coin.py", "import os\n")
    files = imported_files("shop.till")
    write("coin.py", "import shop.bank\n")
    write("bank.py", "import os\n")
    assert imported_files("shop.till") == ("shop/__init__.py", "shop/bank.py", *files[1:])
    assert parsed.count(b"import shop.coin\n") == 1


@pytest.mark.parametrize("damage", ["", "{}", "0\n{}", "\n{"])
def test_a_damaged_memory_of_imports_is_not_used(damage: str, write: Write, tmp_path: Path) -> None:
    write("till.py", "import shop.coin\n")
    write("coin.py", "import os\n")
    files = imported_files("shop.till")
    (memory,) = (tmp_path / ".cache" / "imports").iterdir()
    memory.write_text(damage)
    imported_files.cache_clear()
    assert imported_files("shop.till") == files
    assert len(memory.read_text()) > len(damage)

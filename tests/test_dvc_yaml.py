"""dvc.yaml matches the code: deps are the imported folders, params the sections that are read."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core.source_code import imported_files
from pipeline.params import Params
from pipeline.stages.split.previous_split import ASSIGNMENT_CODE
from tests import ROOT

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# Its code does not affect the outputs of train; a change there must not retrain a network.
RECORD = {"train": "pipeline/tracking"}
# Its out is constant: no code changes it.
CHECK = "check"
# Python runs it for every stage; it contains only a docstring.
PARENT = "pipeline/stages/__init__.py"
# Stage features has the most: eleven of core (tables of other stages, the growth of shards, git),
# two of images, four of network. A run without need takes seconds, as its results are remembered.
MAX_UNUSED = 17


def module_of(stage: str) -> str:
    return f"pipeline.stages.{stage}.__main__"


def source_of(stage: str) -> str:
    return (ROOT / f"pipeline/stages/{stage}/__main__.py").read_text()


def paths_of(stage: str, *kinds: str) -> set[str]:
    listed = [entry for kind in kinds for entry in STAGES[stage].get(kind, ())]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in listed}


def code_of(stage: str) -> set[str]:
    return {path for path in paths_of(stage, "deps") if path.startswith("pipeline/")}


def lies_in(path: str, folders: set[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def test_the_stages_are_the_packages_of_stages() -> None:
    packages = {path.parent.name for path in ROOT.glob("pipeline/stages/*/__main__.py")}
    assert set(STAGES) == packages
    for stage in STAGES:
        assert STAGES[stage]["cmd"].startswith(f"python -m pipeline.stages.{stage} ")
        assert STAGES[stage]["desc"]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != CHECK])
def test_the_deps_of_a_stage_contain_all_its_imports(stage: str) -> None:
    folders = code_of(stage) | {PARENT, *filter(None, [RECORD.get(stage)])}
    assert [path for path in imported_files(module_of(stage)) if not lies_in(path, folders)] == []


def test_check_runs_whenever_a_param_changes_and_before_all_other_stages() -> None:
    """DVC does not restore a persistent out from its run cache, and so runs the stage."""
    assert set(STAGES[CHECK]["params"]) == set(Params.model_fields)
    assert "deps" not in STAGES[CHECK]
    assert all(options["persist"] for out in STAGES[CHECK]["outs"] for options in out.values())
    assert paths_of(CHECK, "outs") <= paths_of("acquire", "deps")


def test_the_package_that_no_stage_depends_on_has_no_code() -> None:
    (docstring,) = ast.parse((ROOT / PARENT).read_text()).body
    assert isinstance(docstring, ast.Expr)


def test_only_train_leaves_out_a_folder_that_it_imports_from() -> None:
    assert set(RECORD) == {"train"}
    for stage, folder in RECORD.items():
        assert not lies_in(folder, code_of(stage))
        assert any(lies_in(path, {folder}) for path in imported_files(module_of(stage)))


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_of_a_stage_have_few_unused_files(stage: str) -> None:
    used = imported_files(module_of(stage))
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("pipeline/**/*.py")]
    unused = [path for path in files if lies_in(path, code_of(stage)) and path not in used]
    assert len(unused) <= MAX_UNUSED, unused


def test_a_stage_that_renders_pages_depends_on_their_templates() -> None:
    for stage in STAGES:
        sources = [(ROOT / path).read_text() for path in imported_files(module_of(stage))]
        rendered = {
            name for text in sources for name in re.findall(r'render\(\s*"([\w./]+)"', text)
        }
        for name in rendered:
            template = Path("pipeline", name)
            based_on = re.findall(r'extends "([\w./]+)"', (ROOT / template).read_text())
            assert lies_in(str(template), code_of(stage)), stage
            assert all(lies_in(f"pipeline/{base}", code_of(stage)) for base in based_on), stage


def test_the_code_that_assigns_splits_is_in_deps_of_its_own() -> None:
    assert set(ASSIGNMENT_CODE) <= code_of("split")
    used = imported_files("pipeline.stages.split.assignment.modes")
    assert all(any(lies_in(path, {code}) for path in used) for code in ASSIGNMENT_CODE)
    of_stage = [path for path in used if path.startswith("pipeline/stages/split/")]
    outside = [path for path in of_stage if not lies_in(path, {*ASSIGNMENT_CODE})]
    assert outside == ["pipeline/stages/split/__init__.py"]


LISTS = re.compile(r"(names|sections) = \(")  # of sections, for a fingerprint or the report


HAVE_PARAMS = ("params: Params", "load_params()", "model: EvaluatedModel")
OWNERS = ("params", "load_params()", "model.params")


def sections_read(tree: ast.AST) -> set[str]:
    """The sections of params.yaml that functions read which have all params, by `HAVE_PARAMS`."""
    read: set[str] = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        text = ast.unparse(function)
        if not any(source in text for source in HAVE_PARAMS):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and node.attr in Params.model_fields:
                owner = ast.unparse(node.value)
                read |= {node.attr} if owner in OWNERS else set()
            if isinstance(node, ast.Assign) and LISTS.match(ast.unparse(node)):
                read |= set(ast.literal_eval(node.value))
    return read


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != CHECK])
def test_the_params_of_a_stage_are_the_sections_it_reads(stage: str) -> None:
    read = set(re.findall(r"\$\{(\w+)\.", STAGES[stage]["cmd"]))  # what DVC itself fills in
    for path in (ROOT / f"pipeline/stages/{stage}").rglob("*.py"):
        read |= sections_read(ast.parse(path.read_text()))
    assert set(STAGES[stage]["params"]) == read


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_called_with_its_inputs_and_outputs(stage: str) -> None:
    _, _, _, *arguments = STAGES[stage]["cmd"].replace("'", "").split()
    data = {path for path in paths_of(stage, "deps") if not path.startswith("pipeline/")}
    data -= paths_of(CHECK, "outs")  # it has nothing to read
    assert set(arguments) == data | paths_of(stage, "outs", "metrics")


def test_main_of_a_stage_is_short_and_stands_last() -> None:
    for stage in STAGES:
        functions = [n for n in ast.parse(source_of(stage)).body if isinstance(n, ast.FunctionDef)]
        assert functions[-1].name == "main", stage
        assert (functions[-1].end_lineno or 0) - functions[-1].lineno < 35, stage

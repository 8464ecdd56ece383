"""dvc.yaml says what the code does: its deps are the imports, its params the sections read."""

import ast
import re
from typing import Any

import pytest
from imports import ROOT, closure
from ruamel.yaml import YAML

from pipeline.params import Params

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def module_of(stage: str) -> str:
    found = re.match(r"python -m (pipeline\.\w+) ", STAGES[stage]["cmd"])
    assert found
    name = found[1]
    return f"{name}.__main__" if ROOT.joinpath(*name.split(".")).is_dir() else name


def paths_of(stage: str, *kinds: str) -> set[str]:
    listed = [entry for kind in kinds for entry in STAGES[stage].get(kind, ())]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in listed}


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_a_stage_imports_is_a_dep(stage: str) -> None:
    declared = {path for path in paths_of(stage, "deps") if path.endswith(".py")}
    assert declared == closure(module_of(stage))


def test_a_stage_that_renders_pages_depends_on_their_templates() -> None:
    for stage in STAGES:
        deps = paths_of(stage, "deps")
        sources = [(ROOT / path).read_text() for path in deps if path.endswith(".py")]
        rendered = {name for text in sources for name in re.findall(r'render\(\s*"([\w.]+)"', text)}
        wanted = {f"pipeline/templates/{name}" for name in rendered | {"base.html"} if rendered}
        assert {path for path in deps if path.endswith(".html")} == wanted, stage


@pytest.mark.parametrize("stage", STAGES)
def test_the_params_of_a_stage_are_the_sections_it_reads(stage: str) -> None:
    source = ROOT.joinpath(*module_of(stage).split(".")).with_suffix(".py")
    read = set(re.findall(r"\$\{(\w+)\.", STAGES[stage]["cmd"]))  # what DVC itself fills in
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in Params.model_fields:
            owner = ast.unparse(node.value)
            if owner == "settings" or owner == "params.load()":
                read.add(node.attr)
        if isinstance(node, ast.Assign) and ast.unparse(node).startswith("names = ('"):
            read |= set(ast.literal_eval(node.value))  # sections that a fingerprint digests
    assert set(STAGES[stage]["params"]) == read


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_called_with_its_inputs_and_outputs(stage: str) -> None:
    _, _, _, *arguments = STAGES[stage]["cmd"].replace("'", "").split()
    data = {path for path in paths_of(stage, "deps") if not path.startswith("pipeline/")}
    assert set(arguments) == data | paths_of(stage, "outs", "metrics")


def test_main_of_a_stage_is_short_and_stands_last() -> None:
    for stage in STAGES:
        source = ROOT.joinpath(*module_of(stage).split(".")).with_suffix(".py")
        functions = [
            n for n in ast.parse(source.read_text()).body if isinstance(n, ast.FunctionDef)
        ]
        assert functions[-1].name == "main", stage
        assert (functions[-1].end_lineno or 0) - functions[-1].lineno < 30, stage

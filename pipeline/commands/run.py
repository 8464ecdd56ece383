"""`pipeline run`: checks first, then runs `dvc exp run`."""

import re
from pathlib import Path
from typing import Annotated

import typer

SOURCE = "dataset.source"


def run(
    name: Annotated[str | None, typer.Argument(help="Of a data set, under datasets/.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", "-S", help="As in `dvc exp run -S`. Repeat it.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--name", "-n", help="Of the experiment.")
    ] = None,
) -> None:
    """Check data set, source and params, then run `dvc exp run`.

    A mistake is one sentence, before any stage runs. Everything else is as with `dvc exp run`,
    which has more options.

    Example:

        pipeline run pets -S train.lr=0.003
    """
    from pipeline.commands.ci.overrides import parse_overrides
    from pipeline.core import project
    from pipeline.core.errors import PipelineError
    from pipeline.datasets.source_path import check_source
    from pipeline.experiments import dvc
    from pipeline.stages.check.checks import check_network

    project.check()
    if name and any(value.lstrip("+").startswith("dataset.name=") for value in values or []):
        raise PipelineError(f"two data sets are named: {name}, and with -S: leave one out")
    overrides = parse_overrides(name, None, list(map(_expand, values or [])))
    params = overrides.validate(Path("params.yaml"))
    source = check_source(Path("datasets", params.dataset.name), params.dataset.source)
    check_network(params)
    options = overrides.options()
    if source != params.dataset.source:  # it is in params.yaml, with ~
        options += ["-S", _quote(source)]
    options += ["--name", experiment] if experiment else []
    code, _ = dvc.run("exp", "run", *options)
    raise typer.Exit(code)


def _expand(value: str) -> str:
    """An override, with ~ expanded in `dataset.source`, and quoted for Hydra."""
    key, _, text = value.partition("=")
    if key.lstrip("+") != SOURCE or not text:
        return value
    if text[0] == text[-1] == '"':
        text = text[1:-1]
    return _quote(str(Path(text).expanduser()) if text.startswith("~") else text)


def _quote(source: str) -> str:
    """Hydra's grammar knows no blank, ~ or parenthesis outside quotes."""
    is_plain = re.fullmatch(r"[\w./:%+-]+", source, re.ASCII)
    escaped = source.replace("\\", "\\\\").replace('"', '\\"')
    return f"{SOURCE}={source}" if is_plain else f'{SOURCE}="{escaped}"'

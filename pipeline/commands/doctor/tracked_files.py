"""Files in git that DVC or a stage writes in place, so that a kill may cut them off."""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.core.errors import PipelineError
from pipeline.core.git import text_at
from pipeline.params import load_params

PARAMS, METRICS = Path("params.yaml"), Path("reports/metrics.json")
WRITTEN_IN_PLACE = (PARAMS, Path("dvc.yaml"), Path(".dvc/config"), METRICS)


def examine() -> Iterator[Finding]:
    """Files that are cut off, or that nothing can read."""
    for path in WRITTEN_IN_PLACE:
        if problem := _find_problem(path):
            yield Finding(problem, f"`git checkout HEAD -- {path}` puts back the commit's")


def _find_problem(path: Path) -> str:
    committed = text_at("HEAD", path.as_posix())
    if not path.exists():
        return f"{path} is missing" if committed is not None and path != METRICS else ""
    text = path.read_bytes().replace(b"\r\n", b"\n")
    whole = (committed or "").encode("utf-8", "surrogateescape")
    if text != whole and whole.startswith(text):
        return f"{path} is cut off after {len(text):,} bytes of {len(whole):,}"
    try:
        if path == PARAMS:
            load_params(path)
        elif path == METRICS:
            json.loads(text)
    except PipelineError as error:
        return str(error)
    except ValueError as error:
        return f"{path} is not JSON ({error})"
    return ""

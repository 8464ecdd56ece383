"""What people see in a terminal while DVC runs the stages."""

import re
import sys
from pathlib import Path

from tests.builders.terminals import run_in_terminal
from tests.project import Project


def test_stages_show_bars_under_dvc(first_run: Project, tmp_path: Path) -> None:
    project = first_run.copied(tmp_path)
    module = project.folder / "pipeline/core/progress.py"
    text = module.read_text()
    assert "DELAY = 2 " in text
    module.write_text(text.replace("DELAY = 2 ", "DELAY = 0 "))  # these stages are over soon
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "train"]
    environment = project.environment | {"TERM": "xterm", "PYTHONUTF8": "1"}
    output, code = run_in_terminal(command, project.folder, environment)
    lines = re.split(r"[\r\n]+", output.decode())
    assert code == 0, lines
    assert any(line.startswith("train: working [00:0") for line in lines), lines  # it imports torch
    bar = r"train: 100%\|█+\| 4/4 \[\S+<00:00, +\S+, loss [\d.]{5}, acc [\d.]{5}\]"
    assert any(re.fullmatch(bar, line.rstrip()) for line in lines), lines
    assert any(line.startswith("train: best epoch") for line in lines), lines

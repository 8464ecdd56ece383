"""A result on its way to the process that records it."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

from pipeline.tracking.result import load_trained_part
from tests import ROOT

READ = """
import pickle, sys
pickle.load(sys.stdin.buffer)
assert "torch" not in sys.modules
"""


def test_reading_a_result_imports_no_torch() -> None:
    message = pickle.dumps(partial(load_trained_part, Path("models")))
    subprocess.run([sys.executable, "-c", READ], input=message, cwd=ROOT, check=True)

"""What the doctor finds."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    problem: str
    """What is wrong, and where."""
    remedy: str = ""
    """How to fix it, or how it was fixed; "" if `problem` says it."""
    is_fixed: bool = False

    def line(self) -> str:
        """For the terminal; paths in the working directory are relative to it."""
        state = "fixed" if self.is_fixed else "wrong"
        text = ": ".join(part for part in (state, self.problem, self.remedy) if part)
        return text.replace(f"{Path.cwd()}{os.sep}", "")

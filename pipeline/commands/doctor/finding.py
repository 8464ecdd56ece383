"""What the doctor finds."""

from dataclasses import dataclass

from pipeline.core.terminal import printable


@dataclass(frozen=True)
class Finding:
    problem: str
    """What is wrong, and where."""
    remedy: str = ""
    """What heals it, or how it was healed; "" if `problem` says it."""
    is_healed: bool = False

    def line(self) -> str:
        """For the terminal."""
        state = "healed" if self.is_healed else "wrong"
        return printable(": ".join(part for part in (state, self.problem, self.remedy) if part))

"""All rows of verdicts.csv; the pipeline itself reads them one by one."""

from pathlib import Path

from pipeline.core.verdicts_csv import VerdictRow, scan_verdicts


def read_verdicts(path: Path) -> list[VerdictRow]:
    """Read verdicts.csv, in its order."""
    return list(scan_verdicts(path))

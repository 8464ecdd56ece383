"""Train again what a signed statement describes, and compare the bytes."""

from pathlib import Path

from pipeline.commands.reproduce import clone
from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of
from pipeline.experiments.attestation.statement import MODEL_FOLDER, Statement
from pipeline.experiments.attestation.verification import compare_files
from pipeline.params import load_params
from pipeline.tracking import provenance

FILES = (provenance.PARAMS, provenance.LOCK)


def recompute(statement: Statement, base: Path) -> list[str]:
    """Train in a temporary clone; return clauses about what differs from the statement.

    DVC restores the data, or computes them from the source.

    Args:
        statement: Of a signer whom the user trusts: its commit's code runs.
        base: The folder of params.yaml and dvc.lock, which have been compared with the statement.

    Raises:
        PipelineError: the commit or the files are not here, or DVC fails.
    """
    project.check()
    commit = statement.predicate.code.commit
    if commit_of(commit) is None:
        raise PipelineError(f"commit {commit[:8]} is not in this clone: git fetch it")
    missing = [name for name in FILES if not (base / name).is_file()]
    if missing:
        raise PipelineError(f"{' and '.join(missing)} of the statement are not in {base}")
    with clone.temporary_folder(keep=False) as folder:
        clone.check_out(folder, commit)
        clone.write_files(folder, {name: (base / name).read_text("utf-8") for name in FILES}, "")
        clone.link_source(folder, load_params(base / provenance.PARAMS).dataset.source)
        clone.restore_outputs(folder)
        clone.run(folder, "repro", "--allow-missing", "evaluate")
        clone.run(folder, "repro", "--force", "--no-run-cache", "--downstream", "train")
        return compare_files(statement, folder / MODEL_FOLDER, folder, with_data=True).differences

"""`pipeline doctor`: find damage and problems of the environment, and repair what a crash left."""

import sys
from typing import Annotated

import typer

from pipeline.core.terminal import print_line


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Move what is damaged into a quarantine folder, so that `dvc repro` computes it "
            "or `dvc pull` fetches it. Deletes nothing; refuses while DVC is at work.",
        ),
    ] = False,
    lock: Annotated[
        bool, typer.Option("--lock", help="Look only at dvc.lock, which takes no time.")
    ] = False,
) -> None:
    """Find what is wrong with the environment, or damaged by a crash, and say how to fix it.

    Looks at Python and its packages, the graphics card, free space, links from DVC's cache, DVC's
    remote, MLflow's server, PIPELINE_CACHE and PIPELINE_CLUSTER; and for damage at dvc.lock, the
    files that DVC writes in place, every object in DVC's cache, the outputs in the workspace, the
    run cache, the memos in .cache, MLflow's database, reject.csv and relabel.csv, and at what
    killed processes have left. A dvc.lock that is cut off is replaced by the last good one, and
    kept as dvc.lock.broken-1. Exits with 1 if something is left to do.

    Examples:

        pipeline doctor

        pipeline doctor --repair && dvc repro

        pipeline doctor --lock    # before `dvc exp run`, after a Ctrl-C
    """
    from pipeline.core import project

    project.check()
    if lock:
        from pipeline.experiments.last_good_lock import mend

        if sentence := mend():
            print_line(f"doctor: {sentence}")
        return
    from pipeline.commands.doctor.examination import examine

    sys.exit(0 if examine(repair) else 1)

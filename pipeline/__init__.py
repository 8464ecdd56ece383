"""Train image classifiers from a folder, an archive or a search, with recorded provenance."""

from pipeline.core import deferred_imports, program

program.start()
deferred_imports.install(program.IS_PROGRAM)  # before anything imports torch or pyarrow
if stage := program.stage_name():
    from pipeline.core import progress

    progress.show_activity(stage)  # while it imports

__version__ = "0.1.0"

"""Train image classifiers from a folder, an archive or a search, with recorded provenance."""

from pipeline.core import import_guard, program

import_guard.guard_imports()  # before anything that takes time
program.start()

from pipeline.core import deferred_imports  # noqa: E402

deferred_imports.install(program.IS_PROGRAM)  # before anything imports torch or pyarrow
if stage := program.stage_name():
    import_guard.warn_of_low_limit()
    from pipeline.core import progress

    progress.show_activity(stage)  # while it imports

__version__ = "0.1.0"

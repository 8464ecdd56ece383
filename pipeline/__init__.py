"""Train image classifiers from a folder, an archive or a search, with recorded provenance."""

from pipeline.core import deferred_imports, program

program.start()
deferred_imports.install(program.IS_PROGRAM)  # before anything imports torch or pyarrow

__version__ = "0.1.0"

"""Train image classifiers from a folder, an archive or a search, with recorded provenance."""

import gc
import sys

from pipeline.core import deferred_dynamo

deferred_dynamo.install()  # before anything imports torchvision or lightning-fabric

if sys.argv[:1] == ["-m"]:  # only while `python -m pipeline...` starts
    # Imports create no garbage; collecting takes a quarter of the time of importing torch and
    # mlflow. `stage.exit_on_failure` enables it again.
    gc.disable()

__version__ = "0.1.0"

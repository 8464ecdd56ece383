"""From a folder, a zip or a search to a trained image classifier whose origin can be proved."""

import gc
import sys

if sys.argv[:1] == ["-m"]:  # `python -m pipeline...` starts; for others, an import changes nothing
    # What is imported is no garbage, and looking for some takes a quarter of the time of importing
    # torch and mlflow. `stage.exit_on_failure` goes on with collecting.
    gc.disable()

__version__ = "0.1.0"

"""Types of decoded images."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # (height, width, 3), RGB
Grey = npt.NDArray[np.uint8]  # (height, width)

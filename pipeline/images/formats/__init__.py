"""The structure of image files, format by format: walked without decoding, safely on any bytes."""

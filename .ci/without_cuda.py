"""Filter a lock file from standard input: without torch, torchvision and CUDA's packages."""

import re
import sys

LEFT_OUT = re.compile(r"(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==")

kept = True
for line in sys.stdin:
    if not line.startswith((" ", "#")):
        kept = not LEFT_OUT.match(line)
    if kept:
        sys.stdout.write(line)

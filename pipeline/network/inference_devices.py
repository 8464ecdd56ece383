"""Which devices compute together what needs no training."""

import torch

from pipeline.network import device


def inference_devices(first: torch.device) -> list[torch.device]:
    """`first`, and all other visible GPUs of its type.

    GPUs of another type give other last digits, so they are left out.
    """
    if first.type != "cuda":
        return [first]
    own = first.index if first.index is not None else torch.cuda.current_device()
    kind = device.arithmetic(torch.device("cuda", own))
    others = [torch.device("cuda", n) for n in range(torch.cuda.device_count()) if n != own]
    return [first, *(where for where in others if device.arithmetic(where) == kind)]

"""A project whose raw images stage filter can judge in a moment."""

import json
from pathlib import Path

from pipeline.core import shards
from pipeline.params import load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage
from tests import ROOT
from tests.builders.images import noise_png
from tests.builders.params import FILTER_PARAMS


def write_filter_project(folder: Path) -> None:
    """Write params.yaml, dataset/ and raw/: 24 images, two of them damaged, and two copies."""
    overrides = {f"filter.{key}": value for key, value in FILTER_PARAMS.model_dump().items()}
    params = with_overrides(load_params(ROOT / "params.yaml"), overrides | {"images.size": 32})
    (folder / "params.yaml").write_text(json.dumps(params.model_dump()))
    (folder / "dataset").mkdir()
    images = [noise_png(number, 40, 48) for number in range(20)]
    images += [images[3], images[0], images[1][:-200], b""]
    pictures = [
        RawImage(f"cat/{number}.png", "cat", data, None, "CC0-1.0")
        for number, data in enumerate(images)
    ]
    shards.write(folder / "raw", shards.RAW, [picture.row() for picture in pictures])

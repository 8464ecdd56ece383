"""Stage features: run the frozen part of the network once per image and view."""

from functools import partial
from pathlib import Path

from pipeline.core import atomic, stage
from pipeline.core.terminal import print_line, warn
from pipeline.distributed.parts import Part
from pipeline.network import device, feature_store
from pipeline.network.examples import Examples, read_examples
from pipeline.params import Params, load_params
from pipeline.stages.features.compute import FeatureSettings, describe, frozen_prefix
from pipeline.stages.features.disk_space import Price
from pipeline.stages.features.feature_files import store
from pipeline.stages.features.part import compute_features_part


def _compute_part(params: Params, examples: Examples, clean: Path, part: Part, key: str) -> None:
    prefix = frozen_prefix(params)
    with device.explain_out_of_memory("lower images.size"):
        index = describe(params, prefix, examples)
        if not index.stored:
            print_line(f"features: nothing to store, {index.why}, so {part} has no work")
            return
        settings = FeatureSettings(prefix, params.images, index)
        compute_features_part(settings, clean, examples, part, key)


def main(clean: Path, split_csv: Path, features: Path, *, part: str = "", key: str = "") -> None:
    """Run the frozen part over the images of CLEAN that SPLIT_CSV names, into FEATURES.

    With --part 2/8, compute the second of eight parts and write nothing: see docs/cluster.md.
    """
    params = load_params()
    if part:
        _compute_part(params, read_examples(split_csv, clean), clean, Part.parse(part), key)
        return
    examples = read_examples(split_csv, clean)
    prefix = frozen_prefix(params)
    with device.explain_out_of_memory("lower images.size"), atomic.replacing(features) as staged:
        index = describe(params, prefix, examples)
        price = Price.of(index, examples)
        if index.stored:
            print_line(f"features: {price.describe()}")
        elif index.prefix and params.features.max_gigabytes:
            warn(f"features: {price.describe_streaming(params.features.max_gigabytes)}")
        staged.mkdir()
        feature_store.write_index(staged, index)
        if index.stored:
            settings = FeatureSettings(prefix, params.images, index)
            check = partial(price.check_disk, features)
            store(staged, clean, split_csv, settings, examples, check)
    reason = f" ({prefix.why})" if prefix.why else ""  # that no faster engine computed them
    done = f"stored, by {prefix.engine}{reason}" if index.stored else f"nothing stored, {index.why}"
    print_line(f"features: {done}")


if __name__ == "__main__":
    stage.run(main)

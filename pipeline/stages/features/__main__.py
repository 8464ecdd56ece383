"""Stage features: run the frozen part of the network once per image and view."""

from functools import partial
from pathlib import Path

from pipeline.core import atomic, stage
from pipeline.core.terminal import print_line, warn
from pipeline.network import device, feature_store
from pipeline.network.examples import read_examples
from pipeline.params import load_params
from pipeline.stages.features.compute import FeatureSettings, describe, frozen_prefix, store
from pipeline.stages.features.disk_space import Price


def main(clean: Path, split_csv: Path, features: Path) -> None:
    """Run the frozen part over the images of CLEAN that SPLIT_CSV names, into FEATURES."""
    params = load_params()
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
            store(staged, clean, settings, examples, partial(price.check_disk, features))
    reason = f" ({prefix.why})" if prefix.why else ""  # that no faster engine computed them
    done = f"stored, by {prefix.engine}{reason}" if index.stored else f"nothing stored, {index.why}"
    print_line(f"features: {done}")


if __name__ == "__main__":
    stage.run(main)

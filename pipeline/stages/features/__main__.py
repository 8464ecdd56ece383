"""Stage features: run the frozen part of the network once per image and view."""

from pathlib import Path

from pipeline.core import atomic, stage
from pipeline.core.terminal import print_line
from pipeline.network import device, feature_store
from pipeline.network.examples import read_examples
from pipeline.params import load_params
from pipeline.stages.features.compute import FeatureSettings, describe, frozen_prefix, store


def main(clean: Path, split_csv: Path, features: Path) -> None:
    """Run the frozen part over the images of CLEAN that SPLIT_CSV names, into FEATURES."""
    params = load_params()
    examples = read_examples(split_csv, clean)
    prefix = frozen_prefix(params)
    with device.explain_out_of_memory("lower images.size"), atomic.replacing(features) as staged:
        index = describe(params, prefix, examples)
        staged.mkdir()
        feature_store.write_index(staged, index)
        if index.stored:
            store(staged, clean, FeatureSettings(prefix, params.images, index), examples)
    print_line(f"features: {'stored' if index.stored else 'nothing stored'}, {index.why}")


if __name__ == "__main__":
    stage.run(main)

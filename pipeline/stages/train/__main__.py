"""Stage train: train a new head, and as much of the network below it as model.trainable says."""

from pathlib import Path

from pipeline.core import program, stage
from pipeline.tracking.recorder import Recorder


def main(
    clean: Path, split_csv: Path, features: Path, models: Path, history_csv: Path, augmented: Path
) -> None:
    """Train on FEATURES (or CLEAN, if nothing is stored) into MODELS; draw AUGMENTED."""
    with Recorder() as recorder:
        with program.imports():  # of torch, while the recorder's process imports mlflow
            from pipeline.stages.train.training import train_model
            from pipeline.stages.train.training_files import TrainingInputs, TrainingOutputs
        inputs = TrainingInputs(clean, split_csv, features)
        train_model(recorder, inputs, TrainingOutputs(models, history_csv, augmented))


if __name__ == "__main__":
    stage.run(main)

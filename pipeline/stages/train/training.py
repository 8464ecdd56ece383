"""A training: the model, its history, and its run in MLflow."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core import history, shards
from pipeline.core.history import Record
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line
from pipeline.images import memo
from pipeline.network import device, model_folder
from pipeline.network.examples import Examples, read_examples
from pipeline.params import Params, load_params
from pipeline.stages.train import augmented_png, loop
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.setup import assemble, calibrate, fingerprint, make_card, prepare
from pipeline.stages.train.state import Job
from pipeline.tracking.recorder import NOT_RECORDED, Recorder, TrainingRecord
from pipeline.tracking.run_names import TRAINED


@dataclass(frozen=True)
class Inputs:
    """Paths of what the stage reads."""

    clean: Path
    split_csv: Path
    features: Path


@dataclass(frozen=True)
class Outputs:
    """Paths of what the stage writes."""

    models: Path
    history_csv: Path
    augmented: Path


def train(
    params: Params, job: Job, examples: Examples, checkpoint: Checkpoint, record: TrainingRecord
) -> list[Record]:
    """Run the loop, and record each validation."""
    records: list[Record] = []

    def on_epoch_end(epoch: int) -> None:
        if params.train.log_checkpoints == "every" and job.fabric.is_global_zero:
            record.log_checkpoint(job.suffix, f"epoch_{epoch:04d}")

    advice = (
        f"lower train.batch_size ({params.train.batch_size}; train.accumulate makes up for it) "
        "or images.size, or train less of the network (model.trainable)"
    )
    if job.fabric.is_global_zero and checkpoint.load() is not None:
        print_line("train: continues a killed run of the same params")
    with (
        bar("train", params.train.epochs, "epoch", is_shown=job.fabric.is_global_zero) as progress,
        device.explain_out_of_memory(advice),
    ):

        def on_step(epochs: float) -> None:
            progress.count = epochs

        fit = loop.fit(job, examples, params.train, checkpoint, on_epoch_end, on_step)
        for validation in fit:
            records.append(validation)
            record.log_validation(asdict(validation))
            if progress.count < validation.epoch:  # it is the killed run's
                progress.start_at(validation.epoch)
            # Of the validation; short, for a line of 80 columns.
            progress.note = f"loss {validation.val_loss:.3f}, acc {validation.val_accuracy:.3f}"
    return records


def train_model(recorder: Recorder, inputs: Inputs, outputs: Outputs) -> None:
    """Train, and write and record the model."""
    params, clean = load_params(), inputs.clean
    fabric = device.start(params.device)
    fabric.launch()
    examples = read_examples(inputs.split_csv, clean)
    assembled = assemble(params, len(examples.classes))
    job = prepare(params, assembled, examples, inputs.features, clean, fabric)
    digest, deviation = fingerprint(params, examples, job), shards.read_deviation(clean)
    # Continued on another processor, it would have weights that neither of them computes.
    checkpoint = Checkpoint(memo.on_this_machine(digest))
    with recorder.training(
        params, digest, inputs.split_csv, deviation, is_recorded=fabric.is_global_zero
    ) as record:
        records = train(params, job, examples, checkpoint, record)
        if fabric.is_global_zero:
            history.write(outputs.history_csv, records)
            temperature = calibrate(job, examples)
            engine = job.index.engine
            card = make_card(params, assembled, examples, engine, digest, temperature, deviation)
            model_folder.save(outputs.models, job.network, card)
            if params.train.log_checkpoints != "none":
                record.log_checkpoint(job.suffix, TRAINED)
            record.log_trained(outputs.models, [asdict(row) for row in records])
            pixels = augmented_png.draw(
                clean, examples, assembled.preprocess, params.images, job.index
            )
            augmented_png.write(outputs.augmented, pixels)
            record.log_file(outputs.augmented, "train")
            print_line(f"{summarise(records)}{'' if record.is_recorded() else NOT_RECORDED}")
            checkpoint.remove()


def summarise(records: list[Record]) -> str:
    """The line that the stage prints."""
    best = history.best(records)
    return (
        f"train: best epoch {best.epoch:g} of {records[-1].epoch:g}, "
        f"validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"
    )

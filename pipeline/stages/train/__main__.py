"""Stage train: train a new head, and as much of the network below it as model.trainable says."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lightning_fabric import Fabric

from pipeline.core import history, shards, stage
from pipeline.core.history import Record
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line
from pipeline.images import memo
from pipeline.network import device, model_folder
from pipeline.network.examples import Examples, read_examples
from pipeline.network.model_folder import Card
from pipeline.params import Params, load_params
from pipeline.stages.train import augmented_png, loop
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.setup import assemble, calibrate, fingerprint, make_card, prepare
from pipeline.stages.train.state import Job
from pipeline.tracking import record
from pipeline.tracking.run import Run


@contextmanager
def open_run(
    params: Params, fabric: Fabric, digest: str, split_csv: Path, deviation: str
) -> Iterator[Run]:
    """The MLflow run of this training; only the first process has one that records."""
    if not fabric.is_global_zero:
        yield Run()
        return
    with record.training_run(params, digest, split_csv, deviation) as run:
        yield run


def train(
    params: Params, job: Job, examples: Examples, checkpoint: Checkpoint, run: Run
) -> list[Record]:
    """Run the loop, and record each validation in `run`."""
    records: list[Record] = []

    def on_epoch_end(epoch: int) -> None:
        if params.train.log_checkpoints == "every":
            run.log_checkpoint(job.suffix, f"epoch_{epoch:04d}")

    advice = (
        f"lower train.batch_size ({params.train.batch_size}; train.accumulate makes up for it) "
        "or images.size, or train less of the network (model.trainable)"
    )
    if job.fabric.is_global_zero and checkpoint.load() is not None:
        print_line("train: continues a killed run of the same params")
    with (
        bar("train", params.train.epochs, "epoch") as progress,
        device.explain_out_of_memory(advice),
    ):
        progress.disable = progress.disable or not job.fabric.is_global_zero
        for validation in loop.fit(job, examples, params.train, checkpoint, on_epoch_end):
            records.append(validation)
            run.log_validation(asdict(validation))
            progress.update(round(validation.epoch - progress.n, 6))
    return records


def write_model(
    params: Params, run: Run, records: list[Record], job: Job, card: Card, models: Path
) -> None:
    """Write the model folder, and record it in `run`."""
    model_folder.save(models, job.network, card)
    suffix = job.suffix if params.train.log_checkpoints != "none" else None
    record.log_trained(run, models, [asdict(row) for row in records], suffix)
    best = history.best(records)
    print_line(
        f"train: best epoch {best.epoch:g} of {records[-1].epoch:g}, "
        f"validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"
        f"{'' if run.id else record.NOT_RECORDED}"
    )


def main(
    clean: Path, split_csv: Path, features: Path, models: Path, history_csv: Path, augmented: Path
) -> None:
    """Train on FEATURES (or CLEAN, if nothing is stored) into MODELS; draw AUGMENTED."""
    params = load_params()
    fabric = device.start(params.device)
    fabric.launch()
    examples = read_examples(split_csv, clean)
    assembled = assemble(params, len(examples.classes))
    job = prepare(params, assembled, examples, features, clean, fabric)
    digest, deviation = fingerprint(params, examples, job), shards.read_deviation(clean)
    # Continued on another processor, it would have weights that neither of them computes.
    checkpoint = Checkpoint(memo.on_this_machine(digest))
    with open_run(params, fabric, digest, split_csv, deviation) as run:
        records = train(params, job, examples, checkpoint, run)
        if fabric.is_global_zero:
            pixels = augmented_png.draw(
                clean, examples, assembled.preprocess, params.images, job.index
            )
            augmented_png.write(augmented, pixels)
            run.log_file(augmented, "train")
            history.write(history_csv, records)
            temperature = calibrate(job, examples)
            engine = job.index.engine
            card = make_card(params, assembled, examples, engine, digest, temperature, deviation)
            write_model(params, run, records, job, card, models)
            checkpoint.remove()


if __name__ == "__main__":
    stage.run(main)

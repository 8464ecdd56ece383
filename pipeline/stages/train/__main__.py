"""Stage train: train a new head, and as much of the network below it as model.trainable says."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lightning_fabric import Fabric

from pipeline.core import history as records
from pipeline.core import stage
from pipeline.core.history import Record
from pipeline.core.progress import bar
from pipeline.network import device, model_folder
from pipeline.network import examples as batches
from pipeline.network.examples import Examples
from pipeline.params import Params, load_params
from pipeline.stages.train import augmented_png, loop
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.setup import assemble, calibrate, card, fingerprint, prepare
from pipeline.stages.train.state import Job
from pipeline.tracking import record
from pipeline.tracking.run import Run


@contextmanager
def recorded(params: Params, fabric: Fabric, digest: str, split_csv: Path) -> Iterator[Run]:
    """The MLflow run of this training; of several processes, the first one's."""
    if not fabric.is_global_zero:
        yield Run()
        return
    with record.training(params, digest, split_csv) as run:
        yield run


def train(
    params: Params, job: Job, examples: Examples, saved: Checkpoint, run: Run
) -> list[Record]:
    """Run the loop, and tell `run` of each validation."""
    history: list[Record] = []

    def ended(epoch: int) -> None:
        if params.train.log_checkpoints == "every":
            run.checkpoint(job.suffix, f"epoch_{epoch:04d}")

    remedy = (
        f"lower train.batch_size ({params.train.batch_size}; train.accumulate makes up for it) "
        "or images.size, or train less of the network (model.trainable)"
    )
    if saved.exists and job.fabric.is_global_zero:
        print("train: goes on where a run of the same params was killed")
    with (
        bar("train", params.train.epochs, "epoch") as shown,
        device.explain_out_of_memory(remedy),
    ):
        shown.disable = shown.disable or not job.fabric.is_global_zero
        for found in loop.fit(job, examples, params.train, saved, ended):
            history.append(found)
            run.validation(asdict(found))
            shown.update(round(found.epoch - shown.n, 6))
    return history


def finish(
    params: Params,
    run: Run,
    history: list[Record],
    job: Job,
    described: model_folder.Card,
    models: Path,
    augmented: Path,
) -> None:
    """Write the model, and tell `run` of it."""
    model_folder.save(models, job.network, described)
    run.artifact(augmented, "train")
    suffix = job.suffix if params.train.log_checkpoints != "none" else None
    record.trained(run, models, [asdict(each) for each in history], suffix)
    best = records.best(history)
    print(
        f"train: best epoch {best.epoch:g} of {history[-1].epoch:g}, "
        f"validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"
    )


def main(
    clean: Path, split_csv: Path, features: Path, models: Path, history_csv: Path, augmented: Path
) -> None:
    """Train on FEATURES (or CLEAN, where nothing is stored) into MODELS; draw AUGMENTED."""
    params = load_params()
    fabric = device.start(params.device)
    fabric.launch()
    examples = batches.read_examples(split_csv)
    made = assemble(params, len(examples.classes))
    job = prepare(params, made, examples, features, clean, fabric)
    digest = fingerprint(params, examples, clean, job)
    saved = Checkpoint(digest)
    with recorded(params, fabric, digest, split_csv) as run:
        history = train(params, job, examples, saved, run)
        if fabric.is_global_zero:
            shown = augmented_png.augmented(
                clean, examples, made.preprocess, params.images, job.index
            )
            augmented_png.write(augmented, shown)
            records.write(history_csv, history)
            fitting = {"temperature": calibrate(job, examples)}
            described = card(params, made, examples, digest).model_copy(update=fitting)
            finish(params, run, history, job, described, models, augmented)
            saved.remove()


if __name__ == "__main__":
    stage.run(main)

"""A training: the model, its history, and its run in MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric
from torch import nn

from pipeline.core import history, shards
from pipeline.core.history import Record
from pipeline.core.plurals import plural
from pipeline.core.progress import bar
from pipeline.core.split_csv import read_groups
from pipeline.core.terminal import print_line, warn
from pipeline.images import memo
from pipeline.network import device, feature_store, model_folder, processes
from pipeline.network.examples import Examples
from pipeline.network.model_folder import Card, Solution
from pipeline.params import Params, load_params
from pipeline.stages.train import abstention, agreement, augmented_png, loop
from pipeline.stages.train.calibration_images import CalibrationImages, draw, set_aside
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.divergence import describe_divergence
from pipeline.stages.train.setup import assemble, calibrate, fingerprint, make_card, prepare
from pipeline.stages.train.shared_examples import share_examples
from pipeline.stages.train.state import Job
from pipeline.stages.train.training_files import TrainingInputs, TrainingOutputs
from pipeline.tracking.recorder import NOT_RECORDED, Recorder, TrainingRecord
from pipeline.tracking.run_names import TRAINED

if TYPE_CHECKING:
    from pipeline.stages.train.solved_head import SolvedHead


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
            record.log_validation(validation)
            if progress.count < validation.epoch:  # it is the killed run's
                progress.start_at(validation.epoch)
            # Of the validation; short, for a line of 80 columns.
            progress.note = f"loss {validation.val_loss:.3f}, acc {validation.val_accuracy:.3f}"
    return records


def solve(
    params: Params, job: Job, head: nn.Module, examples: Examples, split_csv: Path
) -> "SolvedHead":
    """Solve the head, with a bar that shows for how long."""
    from pipeline.stages.train import solved_head  # the solvers, which most trainings do not need

    with bar("train", 1, "fit") as progress:
        solved = solved_head.solve(job, head, examples, read_groups(split_csv), params)
        progress.update()
    return solved


def train_model(recorder: Recorder, inputs: TrainingInputs, outputs: TrainingOutputs) -> None:
    """Train, and write and record the model; of several processes the first one does."""
    params = load_params()
    fabric = device.start(params.device)
    processes.launch(fabric)
    with processes.explain_loss(is_several=fabric.world_size > 1):
        _train_in_process(recorder, params, fabric, inputs, outputs)


def _train_in_process(
    recorder: Recorder,
    params: Params,
    fabric: Fabric,
    inputs: TrainingInputs,
    outputs: TrainingOutputs,
) -> None:
    index = feature_store.read_index(inputs.features)
    agreement.check_agreement(fabric, params, inputs.features)
    examples = share_examples(fabric, inputs, index)
    assembled = assemble(params, len(examples.classes))
    job = prepare(params, assembled, examples, inputs.features, inputs.clean, fabric)
    is_first = fabric.is_global_zero  # which has data/clean and data/split.csv, and writes
    calibration = draw(inputs.split_csv, examples, params.abstention) if is_first else None
    rows: Any = calibration.rows if calibration else None
    examples = set_aside(examples, fabric.broadcast(rows))
    digest: str = fabric.broadcast(fingerprint(params, examples, job) if is_first else "")
    deviation = shards.read_deviation(inputs.clean) if is_first else ""
    # Continued on another processor, it would have weights that neither of them computes.
    checkpoint = Checkpoint(memo.on_this_machine(digest))
    with recorder.training(
        params, digest, inputs.split_csv, deviation, is_recorded=is_first
    ) as record:
        solution = None
        if params.head.is_solved:
            head = assembled.network.get_submodule(assembled.replaced)
            solved = solve(params, job, head, examples, inputs.split_csv)
            solution, records = solved.solution, [solved.record]
            record.log_validation(solved.record)
        else:
            records = train(params, job, examples, checkpoint, record)
        if calibration is None:
            return
        history.write(outputs.history_csv, records)
        card = make_card(
            params,
            assembled,
            examples,
            job.index.engine,
            digest,
            calibrate(job, examples),
            deviation,
            solution,
        )
        _save_model(outputs.models, job, card, examples, calibration, params)
        if params.train.log_checkpoints != "none":
            record.log_checkpoint(job.suffix, TRAINED)
        record.log_trained(outputs.models, records)
        pixels = augmented_png.draw(
            inputs.clean, examples, assembled.preprocess, params.images, job.index
        )
        augmented_png.write(outputs.augmented, pixels)
        record.log_file(outputs.augmented, "train")
        problem = describe_divergence(records, len(examples.classes), params.train)
        if problem and solution is None:
            warn(problem)
        print_line(f"{summarise(records, solution)}{'' if record.is_recorded() else NOT_RECORDED}")
        checkpoint.remove()


def _save_model(
    models: Path,
    job: Job,
    card: Card,
    examples: Examples,
    calibration: CalibrationImages,
    params: Params,
) -> None:
    """Fit the rule by which the model abstains, and write both."""
    head = job.network.get_submodule(card.replaced)
    rule = abstention.fit(job, head, examples, calibration, card.temperature, params.abstention)
    model_folder.save(models, job.network, card, rule)


def summarise(records: list[Record], solution: Solution | None = None) -> str:
    """The line that the stage prints."""
    best = history.best(records)
    epochs = f"best epoch {best.epoch:g} of {records[-1].epoch:g}"
    if solution is not None:
        epochs = (
            f"penalty {solution.penalty:.2g}, cross-validated accuracy {solution.accuracy:.4f} "
            f"({plural(solution.groups, 'group')} left out)"
        )
    return f"train: {epochs}, validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"

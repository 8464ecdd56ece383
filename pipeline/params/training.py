"""Sections about the network: its input, the trained part, the training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import InputSide, Positive, ResizedSide, Section, Seed

PARTS = ("crop", "shift", "rotate", "flip", "trivial")  # of images.augment

Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class ImagesParams(Section):
    """The input of the network. Read by features and train."""

    size: InputSide
    """Side of the square input, in pixels; at most `filter.store_side`."""
    resize: ResizedSide | None
    """Shorter side, in pixels, before the evaluation view's centre crop; null: `size` times the
    ratio of the weights' own preprocessing. At most `filter.store_side`, or images that were stored
    smaller would be enlarged."""
    normalise: Literal["weights", "half", "none"]
    """Mean and standard deviation: those of the weights' own preprocessing, 0.5 for each channel,
    or none (values stay in 0..1)."""
    augment: str
    """Augmentation of training views: `none` (only the evaluation view), or some of these, in this
    order: `crop` (random resized crop), `shift` (of the evaluation view, mirrored at its edges),
    `rotate`, `flip` (horizontal), `trivial` (TrivialAugmentWide)."""
    crop_area: Pair
    """Of `crop`: smallest and largest share of the image's area."""
    crop_ratio: Pair
    """Of `crop`: smallest and largest width / height."""
    shift: Annotated[float, Field(gt=0, le=0.5)]
    """Of `shift`: largest distance in each direction, as a share of the side."""
    rotate: Annotated[float, Field(gt=0, le=180)]
    """Of `rotate`: largest angle in each direction, in degrees."""

    @property
    def parts(self) -> list[str]:
        """The parts of `augment`, in order; empty for `none`."""
        return [] if self.augment == "none" else self.augment.split("-")

    def augmentation(self) -> dict[str, list[Any]]:
        """The parts of the augmentation with the values of their params."""
        keys = {"crop": ["crop_area", "crop_ratio"], "shift": ["shift"], "rotate": ["rotate"]}
        return {part: [getattr(self, key) for key in keys.get(part, [])] for part in self.parts}

    @model_validator(mode="after")
    def _known_parts(self) -> Self:
        if self.parts != [part for part in PARTS if part in self.parts]:
            raise ValueError(
                f"images.augment = {self.augment!r}, but should be none, or some of "
                f"{'-'.join(PARTS)} in this order, such as crop-flip"
            )
        if {"crop", "shift"} <= set(self.parts):
            raise ValueError(
                f"images.augment = {self.augment!r}: crop and shift exclude each other"
            )
        return self

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"images.crop_area = {self.crop_area}, but should be two shares that grow, such as "
                "[0.5, 1.0]"
            )
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(
                f"images.crop_ratio = {self.crop_ratio}, but should be two ratios that grow, such "
                "as [0.75, 1.3333]"
            )
        if self.resize is not None and self.resize < self.size:
            raise ValueError(
                f"images.resize = {self.resize}, but should be at least images.size = {self.size}, "
                "or null"
            )
        return self


class ModelParams(Section):
    """The network and where it is cut. Read by features and train."""

    backbone: Annotated[str, Field(min_length=1)]
    """A torchvision classifier by name, `timm/<name>`, or one of this package without weights:
    `cifar_cnn`, `resnet9`, `resnet9_narrow`."""
    weights: Annotated[str, Field(min_length=1)]
    """`imagenet`, `none`, or the path of a state dict (.pth, .pt or .safetensors). DVC does not
    follow this path: give changed weights a new name."""
    replace: Annotated[str, Field(min_length=1)]
    """The module that the head replaces: `last` (layer), or the name of a module at the network's
    end, such as `classifier`."""
    trainable: Annotated[str, Field(min_length=1)]
    """The trained part: `head`, `all`, or a module's name: it and everything that runs after it. A
    module whose name is head is `module:head`."""


class FeaturesParams(Section):
    """The cached output of the frozen part. Read by features and train."""

    seed: Seed
    """Seeds the augmented views, and the backbone where `model.weights` is `none`."""
    views: Annotated[int, Field(ge=0, le=100)]
    """Augmented views per training image, beside the evaluation view. 0 goes with `images.augment`
    none, or with nothing frozen."""
    dtype: Literal["float32", "float16"]
    """Type of the stored activations."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    """Precision of the frozen part; auto: the fastest that the device supports well."""
    max_gigabytes: Annotated[float, Field(ge=0)]
    """Largest size of the features, in 10^9 bytes; above it every epoch runs the frozen part. With
    the memo they need twice that on disk, and the stage does not start without it. 50: two and a
    half million images of mobilenet_v2 in four views."""


class HeadParams(Section):
    """The new end of the network (see `model.replace`). Read by train."""

    kind: Literal["linear", "mlp", "ridge", "logistic"]
    """linear: one linear layer, trained in steps; mlp: linear, ReLU, dropout, linear. ridge and
    logistic: one linear layer that is solved, with the penalty that cross-validation chooses."""
    hidden: Annotated[int, Field(gt=0, le=65536)]
    """Of `mlp`: units between its two layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Of `mlp`: share of the hidden units that a training step drops."""
    one_logit: bool
    """Two classes: one output, the second class's logit, with binary cross entropy."""

    @property
    def is_solved(self) -> bool:
        """Whether the head is the solution of an equation, so that no steps are taken."""
        return self.kind in ("ridge", "logistic")


class TrainParams(Section):
    """The training. Read by train. For a head that is solved (see `head.kind`) only
    `class_weights`, `penalty` and `log_checkpoints` mean something."""

    seed: Seed
    """Seeds the head's first weights, the order of the images and dropout."""
    epochs: Positive
    batch_size: Positive
    """Images per batch, over all devices."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    """Learning rate; with a schedule, the largest."""
    pretrained_lr: Annotated[float, Field(ge=0)]
    """Factor of `lr` for pretrained layers, which are trained beside the head."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Of `sgd`."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Of weights with two or more dimensions: norms and biases do not decay."""
    schedule: Literal["constant", "cosine", "one-cycle", "plateau"]
    """How the learning rate changes: constant; along a half cosine to 0; up and down (torch's
    OneCycleLR); to a tenth whenever the validation loss stops falling."""
    warmup_epochs: Annotated[float, Field(ge=0)]
    """Epochs at the start over which the learning rate rises linearly to `lr`."""
    plateau_patience: Positive
    """Of `plateau`: the learning rate falls after this many validations in a row without a lower
    loss, counted anew after each fall. A loss counts as lower as for `patience`: however little."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]
    """balanced: weights are inverse to the number of training images of a class."""
    penalty: Annotated[float, Field(gt=0)] | None
    """Of ridge and logistic: that of squared weights, as a multiple of the features' sum of
    squares about their mean; null: chosen by cross-validation on the training images."""
    clip_norm: Annotated[float, Field(gt=0)] | None
    """Largest norm of a step's gradient; null: no limit."""
    accumulate: Positive
    """Batches whose gradients make one step."""
    validate_every: Positive | None
    """Steps between validations; an epoch always ends with one."""
    patience: Positive | None
    """Stop after this many validations in a row without a loss below the lowest, however little;
    null: do not stop."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None
    """Stop once the validation accuracy reaches this; null: do not stop."""
    log_checkpoints: Literal["none", "best", "every"]
    """Checkpoints logged to MLflow beside the model: none, that of the best validation, or also
    those of every epoch."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError(
                f"train.warmup_epochs = {self.warmup_epochs:g}, but one-cycle warms up by itself: "
                "set train.warmup_epochs=0"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs = {self.warmup_epochs:g}, but should be below train.epochs = "
                f"{self.epochs}"
            )
        return self


class AbstentionParams(Section):
    """When a model answers with several classes, or none (docs/abstention.md). Read by train."""

    share: Annotated[float, Field(ge=0, lt=1)] | None
    """Share of the validation groups that is set aside for this: they neither choose the weights
    nor fit the temperature. null: half of them, but 100 groups stay for choosing, and nothing is
    set aside where too few would be left to promise anything."""
    coverage: Annotated[float, Field(gt=0, lt=1)]
    """Share of new images whose set of classes has the true class."""
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    """Share of new images of the classes that are called none of these."""


class EvaluateParams(Section):
    """The report. Read by evaluate."""

    samples: Annotated[int, Field(ge=1, le=100)]
    """Number of test images in the picture of sample predictions, and at most of mistakes."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None
    """Test accuracy that the model has to reach: the report says whether its whole 95 % interval
    does; null: no target."""


class DeviceParams(Section):
    """The hardware. Read by features, train and evaluate."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    """Precision of training, by lightning-fabric's names."""
    devices: Positive
    """Number of training processes per machine, each on its own device (or all on the CPU)."""
    nodes: Positive
    """Number of machines that train together: see docs/cluster.md."""
    compile: bool
    """Whether to use torch.compile: minutes at the start, then faster steps."""

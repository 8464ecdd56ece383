"""Sections about the images: their source, the filter, the splits."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Megapixels, Positive, Section, Seed

AS_DESCRIBED = "datasets"  # dataset.source: DVC cannot follow null as a path


class DatasetParams(Section):
    """The data set. Read by acquire."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """The folder under datasets/ that describes the data set."""
    source: Annotated[str, Field(min_length=1, pattern=r"^[^'\n]*$")]
    """A folder, archive or CSV list to use instead of the source in dataset.toml. The value
    `datasets` means the source in dataset.toml (DVC follows this path, so it must always exist).
    No single quote is allowed, because dvc.yaml quotes it with these in a shell command."""


class AcquireParams(Section):
    """Downloads. Read by acquire."""

    workers: Annotated[int, Field(ge=1, le=256)]
    """Number of photographs downloaded at the same time."""
    per_host_per_second: Annotated[float, Field(ge=0)] | None
    """Maximum of requests per second to a host. 0: no limit; null: 10 for Flickr's photographs, 1
    for its searches, no limit for others. After a 429, no request is sent for Retry-After."""
    max_missing_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Largest share of the listed or requested photographs that may be missing; above it the stage
    fails."""
    respect_robots: bool
    """Whether photographs with the X-Robots-Tag noai or noimageai are skipped."""
    allow_private: bool
    """Whether URLs may have private or loopback addresses (a local mirror, a test)."""
    max_gigabytes: Annotated[float, Field(gt=0)]
    """Largest download, and largest sum of unpacked members, in 10^9 bytes."""
    max_file_megabytes: Annotated[float, Field(gt=0, le=1000)]
    """Larger files, in 10^6 bytes, are skipped and counted: they are not photographs."""


class FilterParams(Section):
    """Which images are accepted, and how they are stored. Read by filter."""

    min_side: Positive
    """Smallest allowed shorter side, in pixels."""
    max_megapixels: Megapixels
    """Largest image, in 10^6 pixels by its header; larger ones are not decoded."""
    store_side: Positive
    """Larger images are scaled down so that their shorter side has this many pixels. At least what
    the network needs: see `images.size` and `images.resize`."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=6)] | None
    """Images whose perceptual hashes differ in at most this many of 64 bits are near-duplicates;
    null: do not search for them."""
    near_duplicate_crops: bool
    """Whether cropped, mirrored, captioned and framed copies are near-duplicates, too. Without
    effect if `near_duplicate_bits` is null."""
    near_duplicates: Literal["keep", "keep_one"]
    """Whether all images of a group are used, or one per label: the first in the latest split. All
    images of a group are in the same split."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)]
    """Largest share of rejected images; above it the stage fails."""

    @model_validator(mode="after")
    def _near_duplicates_are_searched(self) -> Self:
        if self.near_duplicates == "keep_one" and self.near_duplicate_bits is None:
            raise ValueError(
                "filter.near_duplicates = keep_one, but filter.near_duplicate_bits is null, so "
                "none are found: set it to 4, or filter.near_duplicates=keep"
            )
        return self

    @model_validator(mode="after")
    def _sides(self) -> Self:
        if self.min_side > self.store_side:
            raise ValueError(
                f"filter.min_side ({self.min_side}) must not exceed store_side ({self.store_side})"
            )
        if self.min_side**2 > self.max_megapixels * 1e6:
            raise ValueError(
                f"filter.min_side = {self.min_side}, but filter.max_megapixels = "
                f"{self.max_megapixels:g}: every image is too small or too large; lower the first"
            )
        return self


class SplitParams(Section):
    """The training, validation and test images. Read by split."""

    seed: Seed
    """Seed of the hash that assigns images to splits."""
    val: float | int
    """Validation images: a share of the assigned images (on average also per class), or, as a
    whole number, exactly so many of each class."""
    test: float | int
    """Test images: a share, or a number of each class. Not used where the source prescribes a test
    set, nor with folds."""
    train: Positive | None
    """With whole numbers: training images of each class, the rest is not used; null: all others."""
    prescribed: bool
    """Whether to use the splits that the source prescribes; the others are assigned."""
    folds: Annotated[int, Field(ge=2, le=100)] | None
    """Number of folds for cross-validation, one of them the test set; null: no folds."""
    fold: Annotated[int, Field(ge=0)]
    """The fold that is the test set, from 0."""
    leaks: Literal["drop", "fail", "keep"]
    """If the source prescribes several splits for one group: drop its images in the earlier splits,
    fail, or keep them all, to measure how much they raise the test accuracy."""
    incomplete_classes: Literal["keep", "fail"]
    """If a class has no image in val or test: keep it with a warning, or fail. A class of three
    groups of images or more is in each split, unless classes share groups or the source prescribes
    splits; one of two groups is in train and val, and one of a single group in train."""

    @property
    def is_exact(self) -> bool:
        """Whether `val`, `test` and `train` are numbers of images."""
        return isinstance(self.val, int)

    @model_validator(mode="after")
    def _shares_or_numbers(self) -> Self:
        for key in ("val", "test"):
            value = getattr(self, key)
            if not (value >= 1 if isinstance(value, int) else 0 < value < 1):
                raise ValueError(
                    f"split.{key} = {value}, but should be a share between 0 and 1, or a whole "
                    "number of images per class"
                )
        if isinstance(self.val, int) != isinstance(self.test, int):
            raise ValueError(
                f"split.val = {self.val} and split.test = {self.test}: both should be shares, or "
                "both whole numbers of images per class"
            )
        return self

    @model_validator(mode="after")
    def _modes_fit(self) -> Self:
        if not self.is_exact and self.val + self.test >= 1:
            raise ValueError(
                f"split.val + split.test is {self.val + self.test:g}, but should be below 1, or "
                "nothing trains"
            )
        if self.train is not None and not self.is_exact:
            raise ValueError(
                f"split.train = {self.train} goes with whole numbers for split.val and split.test: "
                "set these, or split.train=null"
            )
        if self.folds is None and self.fold:
            raise ValueError(
                f"split.fold = {self.fold}, but split.folds is null, so there are no folds: set it "
                "to their number, or split.fold=0"
            )
        if self.folds is not None and (self.is_exact or self.fold >= self.folds):
            raise ValueError(
                f"split.fold = {self.fold} should be below split.folds = {self.folds}"
                if self.fold >= self.folds
                else f"split.folds = {self.folds} needs shares: set split.val and split.test to "
                "shares such as 0.15, or split.folds=null"
            )
        return self

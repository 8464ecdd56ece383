"""Sections about the images: where they are from, which are kept, who trains."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Positive, Section, Seed

AS_DESCRIBED = "datasets"  # of dataset.source: DVC cannot follow a path that is null


class DatasetParams(Section):
    """Which images. Read by acquire."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """The folder under datasets/ that describes the data set."""
    source: Annotated[str, Field(min_length=1, pattern=r"^[^'\n]*$")]
    """A folder, archive or CSV list to take instead of what dataset.toml names. The value
    `datasets` means "where dataset.toml says" (DVC follows this path, so it must always exist).
    It has no single quote, for dvc.yaml puts it between two, in a command for a shell."""


class AcquireParams(Section):
    """How bytes are fetched. Read by acquire."""

    workers: Annotated[int, Field(ge=1, le=256)]
    """Photographs that are asked for at the same time."""
    per_host_per_second: Annotated[float, Field(ge=0)] | None
    """Most requests to one host in a second. 0: no limit; null: 10 for Flickr's photographs, 1 for
    its searches, none for others. A host that answers 429 is left alone for as long as it says."""
    max_missing_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Share of the listed or wanted photographs that may be gone; past it the stage fails."""
    respect_robots: bool
    """Whether a photograph whose X-Robots-Tag says noai or noimageai is left out."""
    allow_private: bool
    """Whether a URL may lead to a private or loopback address (a mirror at home, a test)."""
    max_gigabytes: Annotated[float, Field(gt=0)]
    """Largest download, and largest sum of unpacked members, in 10^9 bytes."""
    max_file_megabytes: Annotated[float, Field(gt=0, le=1000)]
    """Files larger than this, in 10^6 bytes, are left out and counted: they are not photographs."""


class FilterParams(Section):
    """What is kept, and how it is stored. Read by filter."""

    min_side: Positive
    """Shortest side, in pixels, below which an image is too small."""
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    """Size, in 10^6 pixels by the header, past which an image is never decoded."""
    store_side: Positive
    """Images are stored with their shorter side scaled down to this many pixels."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=6)] | None
    """Images whose perceptual hashes differ in at most this many of 64 bits are near-duplicates.
    0: in none; null: none are looked for."""
    near_duplicates: Literal["keep", "keep_one"]
    """Whether all of a group stay, or of each label the first that would test, validate or train.
    Those that stay are never dealt to different splits."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)]
    """Share of rejected images past which the stage fails."""

    @model_validator(mode="after")
    def _sides(self) -> Self:
        if self.min_side > self.store_side:
            raise ValueError(
                f"filter.min_side ({self.min_side}) must not exceed store_side ({self.store_side})"
            )
        return self


class SplitParams(Section):
    """Who trains, validates and tests. Read by split."""

    seed: Seed
    """Salt of the hash that deals images to splits."""
    val: float | int
    """Share of the images that are dealt, per class in expectation, that validates; or, as a whole
    number, exactly so many of each class."""
    test: float | int
    """Share, or number of each class, that tests. Not used where the source prescribes its test
    set, nor with folds."""
    train: Positive | None
    """With exact numbers: how many of each class train, the rest left out; null: all others."""
    prescribed: bool
    """Whether the splits that the source prescribes stand; those that it lacks are dealt."""
    folds: Annotated[int, Field(ge=2, le=100)] | None
    """Deal into this many folds, of which one tests; null: no folds."""
    fold: Annotated[int, Field(ge=0)]
    """Which fold tests, counted from 0."""
    leaks: Literal["drop", "fail"]
    """What happens where the source prescribes several splits for one group: the copies in train
    (or val) are left out, or the stage fails. Both say which."""

    @property
    def exact(self) -> bool:
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
        if not self.exact and self.val + self.test >= 1:
            raise ValueError(
                f"split.val + split.test is {self.val + self.test:g}, but should be below 1, or "
                "nothing trains"
            )
        if self.train is not None and not self.exact:
            raise ValueError(
                f"split.train = {self.train} goes with whole numbers for split.val and split.test: "
                "set these, or split.train=null"
            )
        if self.folds is not None and (self.exact or self.fold >= self.folds):
            raise ValueError(
                f"split.fold = {self.fold} should be below split.folds = {self.folds}"
                if self.fold >= self.folds
                else f"split.folds = {self.folds} deals by shares: set split.val and split.test to "
                "such as 0.15, or split.folds=null"
            )
        return self

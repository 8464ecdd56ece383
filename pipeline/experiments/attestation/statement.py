"""The in-toto statement about a model: its files, and what it was made from.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from pipeline.core.errors import PipelineError
from pipeline.inference import strict_json
from pipeline.params import first_error
from pipeline.params.section import Section

# Names of our schema, not addresses: the domain `invalid` belongs to nobody (RFC 2606).
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://image-pipeline.invalid/attestation/v1"
MODEL_FOLDER = "models"
DATA_FOLDERS = ("data/raw/", "data/clean/")
MAX_NAME, MAX_PART = 1024, 255  # bytes of a path, and of a name in it: file systems have no more
MAX_FILES = 20_000  # of a kind; a data set of 14 million photographs has 5,000 shards
Count = Annotated[int, Field(ge=0, lt=2**53)]
Figure = float | Annotated[int, Field(gt=-(2**53), lt=2**53)] | None


def _check_path(name: str) -> str:
    path = PurePosixPath(name)
    is_plain = name.isprintable() and not set(name) & set('\\:*?"<>|')
    if not (is_plain and path.parts and path.as_posix() == name and _is_short(path)):
        raise ValueError(f"{name[:100]!r} is no path of a file")
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name[:100]!r} leads out of the project")
    return name


def _is_short(path: PurePosixPath) -> bool:
    lengths = [len(part.encode()) for part in path.parts]
    return max(lengths) <= MAX_PART and sum(lengths) + len(lengths) <= MAX_NAME


RelativePath = Annotated[str, AfterValidator(_check_path)]


class Digest(Section):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Annotations(Section):
    bytes: Count


class File(Section):
    """A file by its content: in-toto's ResourceDescriptor."""

    name: RelativePath
    """Relative to the project; with "/" on every system."""
    digest: Digest
    annotations: Annotations

    @property
    def is_of_model(self) -> bool:
        return PurePosixPath(self.name).parts[0] == MODEL_FOLDER

    @property
    def is_data(self) -> bool:
        """Whether it is a shard of images: there may be many gigabytes of them."""
        return self.name.startswith(DATA_FOLDERS)


def _limit(files: Any) -> Any:
    if isinstance(files, list) and len(files) > MAX_FILES:
        raise ValueError(f"it has more than {MAX_FILES:,} files: merge the shards of the data")
    return files


Files = Annotated[list[File], BeforeValidator(_limit)]


class Code(Section):
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
    """Of git; nothing in the code's folders differed from it."""


class Dataset(Section):
    """The images that the model was trained, validated and tested with."""

    name: RelativePath
    """Of the folder in datasets/."""
    deviation: str
    """How they differ from those that the data set describes, a clause; "" if they do not."""
    images: Count
    splits: dict[str, Count]
    classes: dict[str, Count]
    licences: dict[str, Count]
    """By the source's word; "" where it states none."""


class Environment(Section):
    version: str
    """Of this package."""
    python: str
    torch: str
    """With its build, such as "2.14.1+cpu"."""
    machine: str
    deviations: Annotated[list[str], Field(max_length=1000)]
    """Packages that are missing, or of other versions than requirements.lock pins, as clauses."""


class Predicate(Section):
    code: Code
    materials: Files
    """Tables, params, lock files, shards of images, and the signature of model-signing."""
    dataset: Dataset
    metrics: dict[str, Figure]
    environment: Environment
    run: str
    """The id of the MLflow run; "" if there was none."""


class Statement(Section):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[Files, Field(min_length=1)]
    """The files of the model folder, and its ONNX form if there is one."""
    predicateType: Literal["https://image-pipeline.invalid/attestation/v1"]  # noqa: N815
    predicate: Predicate

    @property
    def files(self) -> Sequence[File]:
        return list(chain(self.subject, self.predicate.materials))

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Statement":
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError("a file is named twice")
        if not any(file.is_of_model for file in self.subject):
            raise ValueError("no file of a model is among the subjects")
        return self


def create(subject: Sequence[File], predicate: Predicate) -> Statement:
    """A statement about files."""
    return Statement.model_validate(
        {
            "_type": STATEMENT_TYPE,
            "subject": subject,
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def render(statement: Statement) -> bytes:
    """The payload of an envelope."""
    return strict_json.render(statement.model_dump(by_alias=True))


def parse(payload: bytes, source: str) -> Statement:
    """Parse a payload, which may be anybody's.

    Raises:
        PipelineError: it is no statement of `pipeline attest`.
    """
    try:
        return Statement.model_validate(strict_json.parse(payload))
    except ValidationError as error:
        why = first_error(error, Statement)
    except ValueError as error:
        why = str(error)
    raise PipelineError(f"the statement in {source} cannot be read: {why[:300]}")

"""What the page of `pipeline review` asks for: lists of images, their bytes, and decisions."""

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.commands.review import decisions
from pipeline.commands.review.catalogue import NAMES, Catalogue, Entry, Filter, FlagKind
from pipeline.commands.review.decisions import Decisions, LineCounts
from pipeline.commands.review.server import NotFound, Reply
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import source_order
from pipeline.core.terminal import printable
from pipeline.images import gallery, hand_lists

PAGE = 60  # images
FLAGGED, EVERYTHING = "flagged", "everything"  # reasons beside the kinds
CHANGED = "the images have changed: start `pipeline review` again"
MALFORMED = "what the page sent is malformed: reload it"
ROW = re.compile("[0-9]{1,15}")  # int refuses thousands of digits
SCRIPT = Path(__file__).with_name("review.js")


@dataclass(frozen=True)
class Reason:
    """A choice in the list of reasons."""

    kind: str
    name: str
    count: int


@dataclass(frozen=True)
class ReviewPage:
    """The facts of review.html."""

    name: str
    folder: str
    images: int
    flagged_count: int
    reasons: list[Reason]
    classes: list[str]
    splits: list[str]
    problems: Sequence[str]
    """Sentences about what could not be looked for."""


class LabelChoice(BaseModel):
    """A class for an image."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str
    class_: Annotated[int | None, Field(alias="class", ge=0)]
    """Its number; None confirms the class that it has."""


class Choices(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reject: list[str]
    label: list[LabelChoice]


class Endpoints:
    """Answers the requests of the page; several threads may call it at the same time."""

    def __init__(
        self, folder: Path, clean: Path, catalogue: Catalogue, problems: Sequence[str]
    ) -> None:
        """Open the images.

        Args:
            folder: Of the data set, which has reject.csv and relabel.csv.
            clean: The shards that the catalogue is of.
        """
        self.line_counts = LineCounts(0, 0)
        """Of all requests."""
        self._folder, self._catalogue, self._problems = folder, catalogue, problems
        files = shards.paths(clean)
        self._reader = shards.RowReader(files, ["id", shards.STORED, "bytes"])
        order = source_order.read_order(clean, len(catalogue))
        self._order = np.arange(len(catalogue)) if order is None else order
        self._lock = threading.Lock()  # the reader keeps files open

    def get(self, path: str, query: Mapping[str, str]) -> Reply:
        """Answer GET.

        Raises:
            NotFound: nothing is at the path.
            PipelineError: reject.csv or relabel.csv is malformed, or an image has changed.
        """
        if path == "":
            return Reply(self._page().encode(), "text/html")
        if path == SCRIPT.name:
            return Reply(SCRIPT.read_bytes(), "text/javascript")
        if path == "images":
            return Reply.of_json(self._list(query))
        if path.startswith("image/"):
            return self._image(*path.removeprefix("image/").partition("-")[::2])
        raise NotFound

    def post(self, path: str, body: bytes) -> Reply:
        """Answer POST: append decisions.

        Raises:
            NotFound: nothing is at the path.
            PipelineError: they are malformed, or cannot be written.
        """
        if path != "decisions":
            raise NotFound
        try:
            choices = Choices.model_validate_json(body)
        except ValidationError as error:
            raise PipelineError(MALFORMED) from error
        counts = decisions.append(self._folder, self._decisions(choices))
        with self._lock:
            self.line_counts += counts
        files = (
            (counts.rejects, hand_lists.REJECT_CSV),
            (counts.labels, hand_lists.RELABEL_CSV),
        )
        lines = " and ".join(f"{count} to {name}" for count, name in files if count)
        message = f"Lines appended: {lines or 'none, all were there'}. `dvc repro` applies them."
        return Reply.of_json({"message": message})

    def _page(self) -> str:
        counts = self._catalogue.counts
        facts = ReviewPage(
            self._folder.name,
            str(self._folder),
            len(self._catalogue),
            self._catalogue.flagged_count,
            [Reason(kind.value, NAMES[kind], counts[kind]) for kind in FlagKind],
            self._catalogue.classes,
            self._catalogue.splits,
            self._problems,
        )
        return gallery.render("commands/review/review.html", facts)

    def _list(self, query: Mapping[str, str]) -> dict[str, object]:
        rejects, labels = decisions.read(self._folder)
        try:
            shows_all = query.get("decisions") == "1"
            image_filter = self._filter(query, () if shows_all else {*rejects, *labels})
            page = max(0, int(query.get("page", "0")))
        except ValueError as error:
            raise NotFound from error
        rows = self._catalogue.select(image_filter)
        page = min(page, max(0, len(rows) - 1) // PAGE)
        entries = self._catalogue.entries(rows[page * PAGE : (page + 1) * PAGE])
        images = [self._describe(entry, rejects, labels) for entry in entries]
        return {"total": len(rows), "page": page, "size": PAGE, "images": images}

    def _filter(self, query: Mapping[str, str], hidden_ids: Collection[str]) -> Filter:
        """Raises `ValueError` for what no choice of the page sends."""
        reason, label, split = (query.get(name, "") for name in ("reason", "label", "split"))
        if (label and not 0 <= int(label) < len(self._catalogue.classes)) or (
            split and split not in self._catalogue.splits
        ):
            raise ValueError
        return Filter(
            None if reason in ("", FLAGGED, EVERYTHING) else FlagKind(reason),
            self._catalogue.classes[int(label)] if label else None,
            split or None,
            reason == EVERYTHING,
            hidden_ids,
        )

    def _describe(
        self, entry: Entry, rejects: Mapping[str, str], labels: Mapping[str, str]
    ) -> dict[str, object]:
        classes = self._catalogue.classes
        is_rejected = entry.id in rejects
        decision = "in reject.csv: delete its line to take it back" if is_rejected else ""
        if not decision and entry.id in labels:
            decision = f"in relabel.csv: {printable(labels[entry.id])}"
        return {
            "row": entry.row,
            "id": entry.id,
            "name": printable(entry.name),
            "label": printable(entry.label),
            "class": classes.index(entry.label),
            "split": entry.split,
            "notes": [printable(note) for note in entry.notes],
            "suggested": classes.index(entry.looks_like) if entry.looks_like in classes else None,
            "decision": decision,
            "is_rejected": is_rejected,
        }

    def _image(self, row: str, key: str) -> Reply:
        """The stored bytes of an image, which the filter accepted: a plain JPEG or PNG."""
        if not ROW.fullmatch(row) or int(row) >= len(self._order):
            raise NotFound
        with self._lock:
            position = self._order[int(row)]
            images = self._reader.take(np.array([position])).to_pylist()
        if not images or images[0]["id"] != key:  # new shards may have fewer rows
            raise PipelineError(CHANGED)
        image = images[0]
        shards.check_bytes([image[shards.STORED]], [image["bytes"]])
        is_png = image["bytes"].startswith(b"\x89PNG")
        return Reply(image["bytes"], "image/png" if is_png else "image/jpeg")

    def _decisions(self, choices: Choices) -> Decisions:
        ids = [*choices.reject, *(choice.id for choice in choices.label)]
        rows = self._catalogue.rows_of(ids)
        if (rows < 0).any() or len(set(ids)) < len(ids):
            raise PipelineError(CHANGED)
        entries = {entry.id: entry for entry in self._catalogue.entries(rows)}
        why = {
            key: "review: " + (", ".join(entry.notes) or "no flag")
            for key, entry in entries.items()
        }
        labels = {choice.id: self._class(choice, entries[choice.id]) for choice in choices.label}
        return Decisions(
            {key: why[key] for key in choices.reject},
            {key: (label, why[key]) for key, label in labels.items()},
        )

    def _class(self, choice: LabelChoice, entry: Entry) -> str:
        if choice.class_ is None:
            return entry.label
        if choice.class_ >= len(self._catalogue.classes):
            raise PipelineError(MALFORMED)
        return self._catalogue.classes[choice.class_]

"""Listings of files for tests of layouts."""

from collections.abc import Mapping

from pipeline.stages.acquire.layouts.labels import FileFacts, FileLabels
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile


def listing_of(content: "Mapping[str, bytes] | list[str]") -> FileTable:
    """A listing of files with these names, each with its name as its content, or with these."""
    contents = dict(content) if isinstance(content, Mapping) else {n: n.encode() for n in content}
    files = FileTable()
    for name, data in contents.items():
        files.append(SourceFile(name, len(data), name.encode(), lambda key: contents[key.decode()]))
    return files


def labels_of(labels: FileLabels, files: FileTable) -> dict[str, tuple[str, str | None]]:
    """Label and split of each file that has a label."""
    return {
        name: (facts.label, facts.split)
        for name, facts in zip(files.names(), labels.facts(files), strict=True)
        if isinstance(facts, FileFacts)
    }


def reasons_of(labels: FileLabels, files: FileTable) -> dict[str, str]:
    """The reason of each file that is left out."""
    return {
        name: facts.value
        for name, facts in zip(files.names(), labels.facts(files), strict=True)
        if isinstance(facts, SkipReason)
    }

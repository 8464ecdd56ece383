"""Folders of files without the suffix of an image that are none: Stanford Dogs' Annotation."""

from collections.abc import Collection, Sequence
from itertools import islice

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.layouts.file_names import IMAGE_SUFFIX, is_image_name
from pipeline.stages.acquire.layouts.image_columns import IMAGE_START
from pipeline.stages.acquire.sources.archive import DAMAGE
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile

EXAMPLES = 3
SAMPLES = 3  # files of a folder that are read


def find_text_folders(files: FileTable, folders: Collection[str]) -> set[str]:
    """The folders whose first files do not start like images, and none is called like an image.

    Nothing where no folder has files that are called like images.

    Args:
        folders: Those with files that may be images by their names.
    """
    named = {path.rpartition("/")[0] for path in files.paths() if IMAGE_SUFFIX.search(path)}
    doubtful = set(folders) - named
    if not named or not doubtful:
        return set()
    sampled: dict[str, list[bool]] = {folder: [] for folder in doubtful}
    for file, path in zip(files, files.paths(), strict=True):
        samples = sampled.get(path.rpartition("/")[0])
        if samples is None or len(samples) == SAMPLES:
            continue
        if is_image_name(path) and not is_hidden(path):
            samples.append(_is_text(file))
    return {folder for folder, samples in sampled.items() if all(samples)}


def _is_text(file: SourceFile) -> bool:
    """Whether a file has content that does not start like an image."""
    try:
        start = file.read()
    except (*DAMAGE, OSError, PipelineError):
        return False
    return bool(start) and not IMAGE_START.match(start)


def describe_text_folders(folders: Collection[str]) -> Sequence[str]:
    """Say which folders have no images."""
    if not folders:
        return ()
    tops = sorted({folder.rpartition("/")[0] or folder for folder in folders})
    names = ", ".join(islice(tops, EXAMPLES))
    return (f"the files in {names} are no images, by how they start: they are left out",)

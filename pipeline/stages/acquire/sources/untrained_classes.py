"""Classes of which a source has images to validate or test on, but none to train on."""

import difflib
from collections.abc import Mapping

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.stages.acquire.class_names import quote

ASSIGN = "write ignore_splits = true in dataset.toml, and split assigns all images anew"


def check_trained(
    counts: Mapping[tuple[str, str | None], int], classes: Mapping[str, str], where: object
) -> None:
    """Refuse classes in val or test alone, where others have images to train on.

    Images without a split count as images to train on: split assigns them.

    Args:
        counts: Images by label and split.
        classes: Label -> class.
        where: The source, for messages.

    Raises:
        PipelineError: there is such a class.
    """
    splits: dict[str, set[str | None]] = {}
    for (label, split), count in counts.items():
        if count:
            splits.setdefault(classes[label], set()).add(split)
    trained = sorted(name for name, of_class in splits.items() if of_class & {None, "train"})
    untrained = sorted(splits.keys() - set(trained))
    if not trained or not untrained:
        return
    name = untrained[0]
    only = " and ".join(split for split in SPLITS if split in splits[name])
    others = f", and so have {len(untrained) - 1} others" if untrained[1:] else ""
    problem = f"{where}: the class {quote(name)} has images in {only} alone, and none to train on"
    if close := difflib.get_close_matches(name, trained, n=1):
        raise PipelineError(
            f"{problem}{others}: if it is {quote(close[0])}, rename it, or write labels = "
            f"{{{quote(name)} = {quote(close[0])}}} in dataset.toml; if not, take its images out, "
            f"or {ASSIGN}"
        )
    raise PipelineError(
        f"{problem}{others}: put some into train, or, if it is no class, take its images out, or "
        f"{ASSIGN}"
    )

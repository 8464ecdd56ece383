"""Data sets of photographs from the web: a Flickr search, or a table of URLs."""

from collections import Counter
from collections.abc import Sequence

from pipeline.commands.new.advice import TABLES
from pipeline.commands.new.downloads import fetch
from pipeline.commands.new.request import (
    Request,
    check_options,
    describe,
    print_next,
    removed_on_failure,
    write_toml,
)
from pipeline.commands.new.summary import print_counts
from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.layouts.url_table import read_url_table
from pipeline.stages.acquire.sources.dispatch import MIN_CLASSES

WANTED = 500  # photographs per class
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
MAX_LIST_BYTES = 50e6  # in git


def from_urls(request: Request, text: str) -> None:
    """Make a data set of a table with the URL and the label of each photograph.

    Raises:
        PipelineError: the table is damaged, or has no such columns.
    """
    check_options(request, ("label_column", "encoding", *TABLES), "a list of URLs")
    path = fetch(text)
    if path.stat().st_size > MAX_LIST_BYTES:
        raise PipelineError(f"{path} is larger than {MAX_LIST_BYTES / 1e6:.0f} MB: split it")
    dataset = describe(request, "urls")
    photos = read_url_table(path, dataset)
    counts: Counter[tuple[str, str | None]] = Counter((x.label, x.split) for x in photos)
    names = ClassNames(renamed=dataset.labels, least=MIN_CLASSES)
    names.settle({label for label, _ in counts}, path)
    print_counts(counts, request.labels)
    name = f"urls{path.suffix.lower()}"
    values = {"kind": "urls", "description": f"{request.name}: a list of URLs.", "path": name}
    with removed_on_failure(request.folder):
        with atomic.replacing(request.folder / name) as staged:
            staged.write_bytes(path.read_bytes())
        write_toml(request.folder, values | request.keys)
    print_next(request, [str(request.folder)])


def from_flickr(request: Request, queries: Sequence[str]) -> None:
    """Make a data set of a Flickr search for each class.

    Args:
        queries: 'query', or 'label=query'.

    Raises:
        PipelineError: a query is empty, or there are less than two.
    """
    check_options(request, ("wanted",), "a Flickr search")
    wanted = request.wanted or WANTED
    searches = {}
    for query in queries:
        label, _, text = query.partition("=")
        if label.strip() in searches:
            raise PipelineError(f"two Flickr searches are for {label.strip()!r}: join them in one")
        searches[label.strip()] = {"text": (text or label).strip()}
    if not all(label and search["text"] for label, search in searches.items()):
        raise PipelineError("a Flickr search is 'query' or 'label=query', with text in it")
    ClassNames(least=MIN_CLASSES).settle(searches, "the Flickr search")
    counts = {split: round(wanted * share) for split, share in SHARES.items()}
    values = {
        "kind": "flickr",
        "description": f"{request.name}: a Flickr search.",
        "seed": 1,
        "wanted": counts,
        "classes": searches,
    }
    write_toml(request.folder, values)
    for label, search in searches.items():
        print_line(f"{label}: {wanted} photographs that match {search['text']!r}")
    print_line("needs an API key in FLICKR_API_KEY and FLICKR_API_SECRET (docs/datasets.md)")
    print_next(request, [str(request.folder)])

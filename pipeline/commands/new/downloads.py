"""Copies of what is at URLs and in object storage."""

from pathlib import Path

from pipeline.core.addresses import is_address, is_url
from pipeline.datasets.source_path import find_path
from pipeline.params import load_params
from pipeline.stages.acquire.sources.object_storage import mirror
from pipeline.stages.acquire.sources.remote_tables import name_table


def fetch(text: str) -> Path:
    """The path of a file or folder; what is elsewhere is fetched into .cache first.

    Raises:
        PipelineError: there is nothing, or it cannot be read.
    """
    if is_url(text):
        return name_table(_download(text), text)
    if is_address(text):
        return name_table(mirror(text, load_params().acquire.max_gigabytes * 1e9), text)
    return find_path(text)


def _download(url: str) -> Path:
    from pipeline.stages.acquire.web.client import Client
    from pipeline.stages.acquire.web.content_store import ContentStore
    from pipeline.stages.acquire.web.download import ExpectedFile, download

    params = load_params().acquire
    with Client(params) as client, ContentStore() as store:
        return download(url, ExpectedFile(), client, store, params.max_gigabytes * 1e9)

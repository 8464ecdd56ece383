"""Which names are those of images, by their suffix."""

import re

IMAGE_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|png|gif|bmp|dib|tiff?|webp|hei[cf]|avif|jxl|jp2|p[bgnp]m|ico)\Z",
    re.IGNORECASE,
)
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
SIDECAR_SUFFIXES = frozenset({".cls", ".json", ".txt"})
# Files that data sets have beside their images; a file of any other name may be an image.
OTHER_SUFFIXES = frozenset(
    {
        ".arrow",
        ".cfg",
        ".db",
        ".doc",
        ".docx",
        ".gz",
        ".html",
        ".ini",
        ".ipynb",
        ".lock",
        ".log",
        ".mat",
        ".md",
        ".mov",
        ".mp4",
        ".npy",
        ".npz",
        ".pdf",
        ".pickle",
        ".pkl",
        ".py",
        ".rst",
        ".sqlite",
        ".tar",
        ".tgz",
        ".toml",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".zip",
    }
)

NO_IMAGES = OTHER_SUFFIXES | SIDECAR_SUFFIXES | TABLE_SUFFIXES
ABOUT = re.compile(r"licen[cs]e|readme|copying|notice|authors|manifest", re.IGNORECASE)


def is_image_name(name: str) -> bool:
    """Whether a file may be an image: its suffix is of an image, or of nothing known."""
    last = name.rpartition("/")[2]
    _, dot, suffix = last.rpartition(".")
    if dot and suffix.isalnum():
        return f".{suffix.lower()}" not in NO_IMAGES
    return ABOUT.search(last) is None


def without_image_suffix(name: str) -> str:
    """`name` without the suffix of an image, if it has one."""
    return IMAGE_SUFFIX.sub("", name)

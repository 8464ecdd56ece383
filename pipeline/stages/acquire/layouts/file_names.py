"""Which names are those of images, by their suffix."""

import re

IMAGE_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|png|gif|bmp|dib|tiff?|webp|hei[cf]|avif|jxl|jp2|p[bgnp]m|ico)\Z",
    re.IGNORECASE,
)
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
LIST_SUFFIXES = TABLE_SUFFIXES | {".txt"}  # of what may be named as a table
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Of archives that only other programs unpack.
PACKED_SUFFIXES = (".7z", ".rar", ".zst", ".tzst", ".gz", ".bz2", ".xz", ".lz4", ".cab", ".dmg")
SIDECAR_SUFFIXES = frozenset({".cls", ".json", ".txt"})
# Of files that people and programs have beside images: films (a Live Photo's .mov), edits (.aae,
# .xmp), downloads that were not completed, texts, archives. A file of any other name may be an
# image.
OTHERS = """
    3gp 7z aac aae arrow asc asf avi bat bz2 cab cfg cmd conf crdownload css db dll dmg doc docx
    dop download exe flac flv geojson gpx gz h5 hdf5 htm html identifier idx info ini ipynb jbf
    js kml lnk lock log lrcat lrv lst lz4 m2ts m4a m4v mat md md5 mid mkv mov mp3 mp4 mpeg mpg
    mts npy npz odt ogg onnx opdownload part partial pdf pickle pkl pp3 ppt pptx pt pth py
    pyc rar rec rst rtf safetensors sfv sh sha1 sha256 sig sqlite srt tar tfrecord tfrecords
    tgz tzst thm tmp toml url vtt wav webloc webm wmv xls xlsx xml xmp xz yaml yml zip zst
"""
OTHER_SUFFIXES = frozenset(f".{suffix}" for suffix in OTHERS.split())

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

"""Names of folders that cameras, phones and calendars give: 100APPLE, Camera Roll, 2023-01-05."""

import re

from pipeline.stages.acquire.layouts.name_labels import is_no_class

YEAR, MONTH, DAY = r"(19|20)\d\d", r"(0[1-9]|1[0-2])", r"(0[1-9]|[12]\d|3[01])"
MONTH_NAME = (
    "(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sep(tember)?|oct(ober)?|"
    "nov(ember)?|dec(ember)?)"
)
# The first are those of cameras, by their standard (DCF).
ALBUM = re.compile(
    rf"""[1-9]\d\d(?-i:[A-Z0-9_]{{5}})
    |(photos\ from\ )?{YEAR}([-_.\ ]?{MONTH}([-_.\ ]?{DAY})?)?
    |{DAY}[-_.\ ]{MONTH}[-_.\ ]{YEAR}|{MONTH}[-_.\ ]({DAY}[-_.\ ])?{YEAR}
    |({YEAR}[-_.\ ])?{MONTH_NAME}([-_.,\ ]+\d\d?)?([-_.,\ ]+{YEAR})?
    |camera(\ roll)?|screenshots|screen\ recordings|bursts|downloads?|saved\ pictures|recents
    |(whatsapp|telegram)\ (images|photos|video)|untitled(\ folder)?|new\ folder""",
    re.IGNORECASE | re.VERBOSE,
)


def is_album_name(name: str) -> bool:
    """Whether a folder is called as cameras, phones and calendars call theirs."""
    return is_no_class(name) or ALBUM.fullmatch(name) is not None

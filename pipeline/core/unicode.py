"""One spelling for each text."""

import unicodedata


def to_nfc(text: str) -> str:
    """Return the composed Unicode form, so that two spellings of the same text are equal."""
    return unicodedata.normalize("NFC", text)

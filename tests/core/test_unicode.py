import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.unicode import to_nfc


@settings(derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_form_of_a_text_has_one_spelling(text: str) -> None:
    for form in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
        assert to_nfc(form) == to_nfc(text)

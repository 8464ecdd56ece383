import pytest

from pipeline.inference.candidate_classes import CandidateClasses


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("", "none of these"),
        ("a", "a at 95 %"),
        ("ba", "one of {b, a} at 95 %"),
        ("abcdefg", "one of {a, b, c, d, e, and 2 more} at 95 %"),
    ],
)
def test_a_set_in_words(labels: str, words: str) -> None:
    candidates = CandidateClasses(tuple(labels), 0.95)
    assert candidates.describe() == words
    assert candidates.is_none_of_these is (not labels)
    assert candidates.label == (labels if len(labels) == 1 else None)

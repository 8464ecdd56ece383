import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import ClassNames, quote
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
LISTED = ClassNames("t.toml", classes=frozenset({"ants", "bees"}))
OVERRIDDEN = ClassNames("t.toml", "/photos", classes=frozenset({"ants", "bees"}))


def error_of(names: ClassNames, labels: list[str]) -> str:
    with pytest.raises(PipelineError) as caught:
        names.settle(labels, "here")
    return str(caught.value)


def test_two_spellings_of_one_text_are_one_class(capsys: pytest.CaptureFixture[str]) -> None:
    settled = ClassNames().settle([COMPOSED, DECOMPOSED, "tea"], "here")
    assert settled == {COMPOSED: COMPOSED, DECOMPOSED: COMPOSED, "tea": "tea"}
    assert capsys.readouterr().out == (
        "acquire: caf\u00e9 is written in 2 Unicode forms: one class\n"
    )


def test_a_single_spelling_is_composed_without_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ClassNames().settle([DECOMPOSED], "here") == {DECOMPOSED: COMPOSED}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("label", "other", "difference", "quoted"),
    [
        ("Cat", "cat", "case", ('"Cat"', '"cat"')),
        ("Stra\u00dfe", "STRASSE", "case", ('"STRASSE"', '"Stra\u00dfe"')),
        ("cat", "c\u200bat", "invisible characters", ('"cat"', '"c\\u200Bat"')),
        ("cat", "ca\u00adt", "invisible characters", ('"cat"', '"ca\\u00ADt"')),
        ("cat", "\u202ecat", "invisible characters", ('"cat"', '"\\u202Ecat"')),
        ("\u2764", "\u2764\ufe0f", "invisible characters", ('"\u2764"', '"\u2764\\uFE0F"')),
        ("cat", "cat\U000e0100", "invisible characters", ('"cat"', '"cat\\U000E0100"')),
        ("cat", "cat\x07", "invisible characters", ('"cat"', '"cat\\u0007"')),
        ("cat", "cat ", "white space", ('"cat"', '"cat "')),
        ("cat", " cat", "white space", ('" cat"', '"cat"')),
        ("a cat", "a\u00a0cat", "white space", ('"a cat"', '"a\\u00A0cat"')),
        ("a cat", "a  cat", "white space", ('"a  cat"', '"a cat"')),
        ("CAT", "\uff23\uff21\uff34", "the form of their characters", ('"CAT"', '"\uff23')),
        ("fi", "\ufb01", "case", ('"fi"', '"\ufb01"')),
        ("Cat", "c\u200bat ", "the form of their characters", ('"Cat"', '"c\\u200Bat "')),
    ],
)
def test_names_that_look_alike_are_refused(
    label: str, other: str, difference: str, quoted: tuple[str, str]
) -> None:
    for order in ([label, other, "dog"], [other, label, "dog"]):
        message = error_of(ClassNames("t.toml"), order)
        first, second = quoted
        assert message.startswith(f"here has two classes that differ only in {difference}, {first}")
        assert f" and {second}" in message
        assert "decide in t.toml, by " in message


@pytest.mark.parametrize("label", ["cat", "fire truck", "caf\u00e9", "\u732b", "\u2764\ufe0f"])
def test_ordinary_names_stay_as_they_are(label: str) -> None:
    assert ClassNames().settle([label, "dog"], "here") == {label: label, "dog": "dog"}


def test_names_that_people_tell_apart_are_different_classes() -> None:
    labels = ["cat", "cats", "c at", "cat1", "c\u00e4t"]
    assert set(ClassNames().settle(labels, "here").values()) == set(labels)


def test_labels_make_two_names_one_class() -> None:
    names = ClassNames(renamed={"Cat": "cat", "kitten": "cat"})
    assert names.settle(["Cat", "cat", "kitten", "dog"], "here") == {
        "Cat": "cat",
        "cat": "cat",
        "kitten": "cat",
        "dog": "dog",
    }


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        (
            {"kity": "cat", "kitten": "cat"},
            'class "kity", which t.toml renames under [labels]: did you mean "kitty"? it has dog, '
            "kitten, kitty",
        ),
        (
            {"bird": "birds"},
            'class "bird", which t.toml renames under [labels]: it has dog, kitten, kitty',
        ),
    ],
)
def test_a_renamed_class_that_is_not_there_is_refused(
    renamed: dict[str, str], message: str
) -> None:
    names = ClassNames("t.toml", renamed=renamed)
    assert error_of(names, ["dog", "kitten", "kitty"]) == f"here has no {message}"


@pytest.mark.parametrize(
    "names",
    [
        ClassNames("t.toml", renamed={"hound": "dog"}),
        ClassNames("t.toml", "/a/copy", renamed={"Fido": "fox"}),
    ],
)
def test_names_of_other_copies_may_be_renamed(
    names: ClassNames, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(names.settle(["cat", "dog"], "here").values()) == {"cat", "dog"}
    (name,) = names.renamed
    assert capsys.readouterr().out == (
        f"acquire: [labels] of t.toml renames {name}: no class has that name\n"
    )


def test_the_labels_of_a_pin_are_not_renamed_again(capsys: pytest.CaptureFixture[str]) -> None:
    names = ClassNames(renamed={"a": "b", "b": "a", "Polish": "Polish"})
    labels = {"a": "a", "b": "b"}
    assert names.of_pin().settle(labels, "here") == labels
    assert capsys.readouterr().out == ""


def test_labels_apply_to_both_forms_of_a_name() -> None:
    names = ClassNames(renamed={COMPOSED: "coffee"})
    assert set(names.settle([COMPOSED, DECOMPOSED], "here").values()) == {"coffee"}


@pytest.mark.parametrize(
    "names",
    [
        ClassNames(renamed={"Polish": "Polish", "polish": "polish"}),
        ClassNames(classes=frozenset({"Polish", "polish"})),
    ],
)
def test_dataset_toml_can_keep_two_names_apart(names: ClassNames) -> None:
    labels = {"Polish": "Polish", "polish": "polish"}
    assert names.settle(labels, "here") == labels


@pytest.mark.parametrize("label", ["cat|dog", "dog, cat", "cat;dog"])
def test_a_label_of_several_classes_is_refused(label: str) -> None:
    labels = ["cat", "dog", label, "dog, big"]
    assert error_of(ClassNames("t.toml"), labels).startswith(
        f'here has the class "{label}" beside '
    )
    names = ClassNames(classes=frozenset(labels))
    assert set(names.settle(labels, "here").values()) == set(labels)


def test_a_decision_on_one_of_two_names_is_not_enough() -> None:
    assert "differ only in case" in error_of(ClassNames(renamed={"Cat": "Cat"}), ["Cat", "cat"])


def test_a_name_that_would_end_the_script_of_a_page_of_plots_is_refused() -> None:
    message = error_of(ClassNames(), ["</script><script>alert(1)", "cat"])
    assert message == (
        'here has a class whose name is markup, "</script><script>alert(1)": rename its label to '
        'one without "</"'
    )
    assert ClassNames().settle(["a<b", "b/c", "<i>"], "here") == {
        "a<b": "a<b",
        "b/c": "b/c",
        "<i>": "<i>",
    }


@pytest.mark.parametrize("label", ["\u200b", " ", "\u2800", "\u3164", "\u00ad\u200d"])
def test_a_name_that_prints_as_nothing_is_refused(label: str) -> None:
    message = error_of(ClassNames(), [label, "cat"])
    assert message.startswith(f"here has a class whose name prints as nothing, {quote(label)}: ")


@pytest.mark.parametrize(
    ("labels", "difference"),
    [
        (["cat", "dog"], "cat, dog instead of ants, bees"),
        (["ants"], "no image of bees"),
        (["ants", "bees", "wasps"], "also wasps"),
        (["Ants", "bees"], "Ants instead of ants"),
        (["ants ", "bees"], '"ants " instead of ants'),
        ([*"abcdefg", "ants", "bees"], "also a, b, c, d, e, 2 more"),
    ],
)
def test_other_classes_than_those_listed_are_refused(labels: list[str], difference: str) -> None:
    start = f"here has other classes than t.toml lists ({difference}): "
    assert error_of(LISTED, labels).startswith(f"{start}correct the source, or `classes` there")
    message = error_of(OVERRIDDEN, labels)
    assert message.startswith(f"{start}set -S dataset.source=datasets for the images that belong")
    assert "or -S dataset.name=images for your own" in message


def test_the_refusal_of_another_spelling_names_the_line_that_renames_it() -> None:
    message = error_of(OVERRIDDEN, ["Ants", "bees"])
    assert message.endswith('; "Ants" = "ants" under [labels] renames one')


def test_the_listed_classes_are_accepted_in_any_form() -> None:
    names = ClassNames(classes=frozenset({COMPOSED, "tea"}))
    assert set(names.settle(["tea", DECOMPOSED], "here").values()) == {COMPOSED, "tea"}


def images(*labels: str) -> list[RawImage | SkippedItem]:
    return [RawImage(f"{label}/1.png", label, b"x") for label in labels]


def test_a_class_of_which_no_image_came_is_refused_at_the_end() -> None:
    items = [*images("ants"), SkippedItem("bees/1.png", SkipReason.GONE, "bees")]
    checked = OVERRIDDEN.check_images(items, "here")
    assert [next(checked), next(checked)] == items
    with pytest.raises(PipelineError, match=r"here has other classes .*\(no image of bees\)"):
        next(checked)
    assert list(OVERRIDDEN.check_images(images("bees", "ants"), "here")) == images("bees", "ants")
    assert list(ClassNames().check_images(images("bees"), "here")) == images("bees")


@settings(derandomize=True)
@given(st.lists(st.text(st.sampled_from("aAb\u0301\u200b \u00e9"), min_size=1), max_size=5))
def test_settled_names_are_composed_and_no_two_look_alike(labels: list[str]) -> None:
    try:
        settled = ClassNames().settle(labels, "here")
    except PipelineError:
        return
    names = set(settled.values())
    assert all(unicodedata.is_normalized("NFC", name) for name in names)
    folded = {" ".join(name.replace("\u200b", "").casefold().split()) for name in names}
    assert len(folded) == len(names)

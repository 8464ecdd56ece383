import numpy as np
import pytest
from scipy.stats import fisher_exact

from pipeline.commands.drift.comparison import compare_samples, first_of_groups
from pipeline.commands.drift.distances import mean_distances, tail_shares
from pipeline.commands.drift.far_images import FarCount
from pipeline.commands.drift.sample import Sample
from pipeline.stages.evaluate.intervals import ALONE


def draw(seed: int, count: int, direction: int = 0) -> Sample:
    """Images of two classes; their features point into a direction each."""
    random = np.random.default_rng(seed)
    centres = np.eye(8)[direction + np.arange(count) % 2]
    values = 3 * centres + random.normal(0, 0.4, (count, 8))
    classes = ["ant" if number % 2 == 0 else "bee" for number in range(count)]
    return Sample(values.astype(np.float32), np.full(count, ALONE, np.int32), classes)


def test_a_share_of_images_that_are_alike_is_far() -> None:
    training = draw(0, 400).values
    tested = mean_distances(draw(1, 99).values, training)
    shares = tail_shares(mean_distances(draw(2, 1000).values, training), tested)
    assert shares.min() == 1 / 100
    assert (shares <= 0.05).mean() == pytest.approx(0.05, abs=0.04)
    assert tail_shares(np.array([9.0, -1.0]), tested).tolist() == [0.01, 1.0]


def test_distances_are_to_the_nearest_of_few_training_images() -> None:
    training = np.array([[1, 0], [0, 2]], np.float32)
    distances = mean_distances(np.array([[5, 0], [3, 3]], np.float32), training)
    np.testing.assert_allclose(distances, [0.5, 1 - 2**-0.5], rtol=1e-6)


def test_the_p_value_of_far_images_is_fishers() -> None:
    count = FarCount("ant", 30, 6, 150, 9)
    assert count.share == 0.2
    expected = fisher_exact([[6, 24], [9, 141]], alternative="greater").pvalue
    assert count.p == pytest.approx(expected)
    assert FarCount("new", 5, 5, 0, 0).p == 1.0  # the test set has none: nothing to compare with


def test_images_that_are_alike_show_no_difference() -> None:
    result = compare_samples(draw(0, 200), draw(1, 100), draw(2, 60), 0.01)
    assert not result.is_shown
    assert result.far_classes == []
    first, classifier, far = result.sentences()
    assert first == (
        "No difference between the 60 new images and the training images is shown (false alarm "
        "rate: at most 1 %)."
    )
    assert "30 new and 100 training images" in classifier
    assert " of 60 new images are far: further from the training images than 95 % of the " in far


def test_images_in_another_direction_are_far_and_so_is_their_class() -> None:
    new = draw(2, 60)
    new.values[::2] = draw(3, 60, direction=4).values[::2]  # all that are taken for ants
    result = compare_samples(draw(0, 200), draw(1, 100), new, 0.01)
    assert result.is_shown
    assert result.far_classes == ["ant"]
    assert result.classes[0].far == 30
    assert result.is_far[::2].all()
    assert set(result.p_values) == {"classifier", "distance"}
    assert result.sentences()[-1] == "Classes with more far images than expected: ant."


def test_a_class_is_far_only_if_all_images_together_are() -> None:
    """Else the classes would be a third family of tests, each at the whole level."""
    training, held_out = draw(0, 200), draw(1, 200)
    few = draw(3, 4, direction=4).values  # in each of 400 images: 1 %, and all of a class
    new = draw(2, 400)
    values = np.concatenate([new.values, few])
    labels = [*new.classes, *["bat"] * 4]
    sample = Sample(values, np.full(404, ALONE, np.int32), labels)
    others = Sample(held_out.values, held_out.groups, [*held_out.classes[:-40], *["bat"] * 40])
    result = compare_samples(training, others, sample, 0.01)
    assert result.far.p > 0.01
    bat = next(count for count in result.classes if count.name == "bat")
    assert bat.p < 0.001
    assert result.far_classes == []
    assert not any("more far images" in sentence for sentence in result.sentences())


def test_a_few_images_are_judged_by_their_distance_alone() -> None:
    result = compare_samples(draw(0, 200), draw(1, 100), draw(3, 6, direction=4), 0.01)
    assert result.classifier is None
    assert result.is_shown
    assert "too few images for the classifier test" in result.sentences()[1]


def test_near_duplicates_count_once() -> None:
    new = draw(3, 40, direction=4)
    alike = Sample(new.values, np.zeros(40, np.int32), new.classes)
    result = compare_samples(draw(0, 200), draw(1, 100), alike, 0.01)
    assert (result.images, result.far.images) == (40, 1)
    assert not result.is_shown
    groups = np.array([7, ALONE, 7, ALONE, 2], np.int32)
    assert first_of_groups(groups).tolist() == [True, True, False, True, True]


def test_with_few_held_out_images_no_distance_is_judged() -> None:
    result = compare_samples(draw(0, 200), draw(1, 18), draw(3, 6, direction=4), 0.01)
    assert result.p_values == {}
    assert not result.is_shown
    assert not result.is_far.any()
    assert "that needs 19 validation and test images" in result.sentences()[2]
    assert "and there are 18." in result.sentences()[2]

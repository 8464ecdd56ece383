from pipeline.commands.serve.metrics import Histogram, Metrics


def test_buckets_add_up() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.add(value)
    assert list(histogram.lines("name")) == [
        'name_bucket{le="1"} 2',
        'name_bucket{le="2"} 3',
        'name_bucket{le="+Inf"} 4',
        "name_sum 12.000000",
        "name_count 4",
    ]


def test_images_are_counted_by_their_problem() -> None:
    metrics = Metrics()
    metrics.count_batch([None, "empty", None])
    text = metrics.text()
    assert 'pipeline_serve_images_total{result="answered"} 2\n' in text
    assert 'pipeline_serve_images_total{result="empty"} 1\n' in text
    assert 'pipeline_serve_batch_images_bucket{le="4"} 1\n' in text
    assert text.endswith("\n")

import numpy as np

from pipeline.stages.filter.near_duplicates.components import Components


def canonical(components: Components) -> list[int]:
    names = components.groups().tolist()
    return [names.index(name) for name in names]


def test_links_join_components() -> None:
    components = Components(np.arange(6))
    assert canonical(components) == [0, 1, 2, 3, 4, 5]
    components.link(np.array([0, 4]), np.array([2, 5]))
    assert canonical(components) == [0, 1, 0, 3, 4, 4]
    components.link(np.array([2]), np.array([4]))
    assert canonical(components) == [0, 1, 0, 3, 0, 0]


def test_many_links_are_joined_on_the_way() -> None:
    components = Components(np.arange(3))
    for _ in range(10):
        components.link(np.array([0]), np.array([2]))
    assert canonical(components) == [0, 1, 0]


def test_nodes_with_equal_numbers_are_linked() -> None:
    components = Components(np.array([7, 3, 7, 9, 3]))
    components.link(np.array([3]), np.array([4]))
    assert canonical(components) == [0, 1, 0, 1, 1]

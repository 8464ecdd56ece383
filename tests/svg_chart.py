"""Parse a chart of the report."""

from dataclasses import dataclass
from xml.etree import ElementTree

from pipeline.stages.evaluate.svg.chart import Chart


@dataclass(frozen=True)
class Drawn:
    """The SVG of a chart."""

    root: ElementTree.Element

    @property
    def readouts(self) -> list[str]:
        """What its marks say, in their order."""
        return [element.text or "" for element in self.root.iter("text") if _is(element, "readout")]

    @property
    def texts(self) -> list[str]:
        """What stands on it without a pointer."""
        texts = self.root.iter("text")
        return [element.text or "" for element in texts if not _is(element, "readout")]

    def shapes(self, class_: str) -> list[ElementTree.Element]:
        return [element for element in self.root.iter() if _is(element, class_)]

    def places(self) -> list[tuple[float, float]]:
        """The centres of all circles."""
        circles = self.root.iter("circle")
        return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        _, _, width, height = map(float, self.root.attrib["viewBox"].split())
        return width, height


def _is(element: ElementTree.Element, class_: str) -> bool:
    return class_ in element.get("class", "").split()


def drawn(chart: Chart) -> Drawn:
    """The chart; fails if it is not well-formed, or needs anything from elsewhere."""
    root = ElementTree.fromstring(chart.svg)
    for element in root.iter():
        assert element.tag in {"svg", "g", "line", "path", "circle", "rect", "text"}
        assert not {"href", "style", "onload", "onclick"} & element.attrib.keys()
    assert root.get("aria-hidden") == "true"
    assert chart.summary
    return Drawn(root)

"""Plots as DVC's pages contain them, drawn by Vega: the marks of the SVG."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import vl_convert

SVG = "{http://www.w3.org/2000/svg}"
VEGA_LITE = "5.8"  # the oldest that vl-convert has; DVC's pages load 5.2
Floats = npt.NDArray[np.float64]
NUMBER = r"-?[\d.]+(?:e-?\d+)?"


@dataclass(frozen=True)
class Mark:
    """A mark, with the values that it stands for."""

    kind: str
    """Such as "line mark"."""
    values: dict[str, str]
    """By the titles of their axes and legends; of a line, those of its first point."""
    points: Floats
    """(N, 2) Pixels: of a line's path, or where the mark stands."""
    style: dict[str, str]
    text: str


def read_specs(page: Path) -> dict[str, dict[str, Any]]:
    """The filled templates on a page of `dvc plots`, by title."""
    specs = [json.loads(line) for line in re.findall(r"var spec = (\{.*\});", page.read_text())]
    return {spec["title"]["text"]: spec for spec in specs}


def draw(spec: dict[str, Any]) -> "Drawing":
    return Drawing(ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)))


@dataclass(frozen=True)
class Drawing:
    """A drawn plot."""

    svg: ElementTree.Element

    @property
    def texts(self) -> list[str]:
        return [element.text or "" for element in self.svg.iter(f"{SVG}text")]

    def marks(self, kind: str) -> list[Mark]:
        """The visible marks of a kind."""
        return [
            _mark(kind, element)
            for element in self.svg.iter()
            if element.get("aria-roledescription") == kind and element.get("opacity") != "0"
        ]

    def panels(self) -> Iterator["Drawing"]:
        """The plots of a facet, from left to right."""
        for element in self.svg.iter(f"{SVG}g"):
            if "role-scope" in element.get("class", "") and "cell" in element.get("class", ""):
                yield from map(Drawing, element)


def _mark(kind: str, element: ElementTree.Element) -> Mark:
    label = element.get("aria-label", "")
    values = dict(pair.split(": ", 1) for pair in label.split("; ") if ": " in pair)
    return Mark(kind, values, _points(element), dict(element.attrib), element.text or "")


def _points(element: ElementTree.Element) -> Floats:
    """The points of a path of straight lines, or the place of a mark."""
    translated = re.search(rf"translate\(({NUMBER}),({NUMBER})\)", element.get("transform", ""))
    if translated:
        return np.array([translated.groups()], float)
    points, place = [], np.zeros(2)
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", element.get("d", "")):
        values = [float(number) for number in re.findall(NUMBER, numbers)]
        if command in "ML":
            place = np.array(values)
        elif command in "HV":
            place = place.copy()
            place["HV".index(command)] = values[0]
        elif command in "hv":
            place = place.copy()
            place["hv".index(command)] += values[0]
        else:
            assert command in "Zz", f"a curve: {command}"
            continue
        points.append(place)
    return np.array(points)

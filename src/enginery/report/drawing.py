"""SVG out of Vega-Lite, made fit for a page: small, without scripts or styles, colours by name.

Vega-Lite places and draws; what it says to screen readers of every mark is taken out, as each
picture has a title, a description and a table with its figures beside it.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from .words import printable

_SVG = "{http://www.w3.org/2000/svg}"
_KEPT = frozenset(
    {"d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "fill", "stroke",
     "stroke-width", "opacity", "text-anchor", "font-size", "font-weight"}
)  # fmt: skip
_SHAPES = frozenset({"path", "line", "text", "rect"})
_PLACES = frozenset({"d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height"})
_LONG = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")
_NOTHING = {"opacity": "1", "stroke-width": "1", "font-weight": "normal", "text-anchor": "start"}


def draw(
    spec: dict[str, Any], *, title: str, description: str, name: str, css: str, above: int = 0
) -> str:
    """A Vega-Lite specification as an `svg` element for an HTML page.

    Args:
        spec: The specification, with a width and a height; colours may be anything CSS knows.
        title: What the picture is, for screen readers.
        description: What it shows.
        name: Prefix of the ids in it, which no other picture of the page has.
        css: Class of the element.
        above: Pixels above the specification's own height, for an axis.
    """
    import vl_convert  # takes half a second to start

    drawn = ET.fromstring(vl_convert.vegalite_to_svg({**_BASE, **spec}))  # noqa: S314 - our own
    svg = ET.Element(
        "svg",
        {
            "class": css,
            "viewBox": f"0 {-above} {spec['width']} {spec['height'] + above}",
            "width": str(spec["width"]),
            "height": str(spec["height"] + above),
            "role": "img",
            "aria-labelledby": f"{name}-t {name}-d",
        },
    )
    ET.SubElement(svg, "title", {"id": f"{name}-t"}).text = printable(title)
    ET.SubElement(svg, "desc", {"id": f"{name}-d"}).text = printable(description)
    svg.extend(part for child in drawn for part in _lean(child))
    return ET.tostring(svg, encoding="unicode", method="html")


_BASE: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "autosize": {"type": "none"},
    "padding": 0,
    "background": None,
    "config": {"font": "sans-serif", "view": {"stroke": None}, "aria": False},
}


def _lean(element: ET.Element) -> list[ET.Element]:
    """What is worth keeping of an element: marks that show, and groups that move them."""
    tag = element.tag.removeprefix(_SVG)
    parts = [part for child in element for part in _lean(child)]
    kept = {
        key: _rounded(value) if key in _PLACES else value
        for key, value in element.attrib.items()
        if key in _KEPT and _NOTHING.get(key) != value
    }
    if tag in _SHAPES:
        if element.get("display") == "none" or not _shows(tag, element):
            return []
        lean = ET.Element(tag, kept)
        lean.text = element.text
        return [lean]
    moved = kept.get("transform", "translate(0,0)")
    if tag != "g" or moved == "translate(0,0)":
        return parts
    if not parts:
        return []
    group = ET.Element("g", {"transform": moved})
    group.extend(parts)
    return [group]


def _shows(tag: str, element: ET.Element) -> bool:
    if tag == "text":
        return bool(element.text)
    return element.get("fill") is not None or element.get("stroke") is not None


def _rounded(places: str) -> str:
    """Coordinates to a tenth of a pixel."""
    return _LONG.sub(lambda found: f"{round(float(found[0]), 1):g}", places)

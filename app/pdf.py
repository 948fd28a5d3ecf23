"""Figures as files: an SVG that stands on its own, and SVG as PDF, without a browser.

An SVG that comes from a browser is not trusted: only shapes and text are taken over, so nothing in it can name a file,
an address, an entity or a font to be looked for.
"""

from __future__ import annotations

import io
import logging
from functools import lru_cache
from pathlib import Path

from lxml import etree

from segmodels import GanatomyError

SPACE = "http://www.w3.org/2000/svg"
SHAPES = frozenset({"svg", "g", "path", "rect", "line", "polyline", "polygon", "circle", "ellipse", "text", "tspan"})
TAKEN = frozenset({
    "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "d", "points", "width", "height", "transform",
    "viewBox", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap",
    "stroke-linejoin", "opacity", "font-size", "font-weight", "font-style", "text-anchor", "dx", "dy", "style",
})  # fmt: skip
MOST_ELEMENTS, MOST_SIDE = 50_000, 10_000
FONT, WIDE = "Helvetica", "GanatomyWide"  # of every PDF reader; for what that has no characters for, embedded in part
WIDE_FILES = (  # one of these, where it is; a box stands for what neither has
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf", "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "/System/Library/Fonts/Supplemental/Arial Unicode.ttf", "C:/Windows/Fonts/arial.ttf",
)  # fmt: skip
SIGNS = str.maketrans(
    {"−": "–", "\u2009": " ", "\u00a0": " "}
)  # Helvetica in a PDF has no minus; this dash is its width

# How the drawings look on paper: class -> attributes. The page's style sheet says the same in its colours.
INK, QUIET, LINE, RULE, ON, GOLD = "#1c2026", "#666d78", "#e4e4de", "#c9c9c2", "#f3c544", "#c8961b"
PAPER = {
    "quiet": {"fill": QUIET}, "strong": {"fill": INK, "font-weight": "bold"}, "grid": {"stroke": LINE},
    "on": {"fill": ON, "fill-opacity": "0.2"}, "threshold": {"stroke": GOLD, "stroke-width": "1.5", "fill": GOLD},
    "curve": {"fill": "none", "stroke": QUIET, "stroke-width": "2", "stroke-linejoin": "round"},
    "bar": {"fill-opacity": "0.85"}, "bar below": {"fill-opacity": "0.3"},
    "chance": {"stroke": QUIET, "stroke-width": "2"}, "floor": {"stroke": RULE, "stroke-dasharray": "3 3"},
    "error": {"stroke": INK, "stroke-width": "1.5", "fill": INK},
}  # fmt: skip


def standalone(markup: str) -> str:
    """Return one of our drawings as an SVG file: with its size, and its style sheet's looks as attributes."""
    root = _parse(markup)
    width, height = root.get("viewBox", "0 0 100 100").split()[2:]
    for element in root.iter():
        style = dict(part.split(":", 1) for part in element.attrib.pop("style", "").split(";") if ":" in part)
        for name, value in {**PAPER.get(element.attrib.pop("class", ""), {}), **style}.items():
            element.set(name, value)
    root.attrib.update(
        {
            "xmlns": SPACE,
            "width": width,
            "height": height,
            "font-family": "Helvetica, Arial, sans-serif",
            "font-size": "12.5",
        }
    )
    return etree.tostring(root, encoding="unicode")


def pdf_of_svg(text: str) -> bytes:
    """Return a PDF of one page, as large as the figure, with its text as text.

    Raises:
        GanatomyError: if ``text`` is no SVG of shapes and text.
    """
    from reportlab.graphics import renderPDF  # only who exports pays for the import
    from svglib.svglib import SvgRenderer

    root = _clean(_parse(text))
    logging.getLogger("svglib").setLevel(logging.ERROR)
    try:
        drawing = SvgRenderer("figure.svg").render(root)
        out = io.BytesIO()
        renderPDF.drawToFile(drawing, out)
    except Exception as error:  # whatever it stumbles over, it came from outside
        raise GanatomyError(f"this figure cannot be made a PDF: {str(error)[:200]}") from error
    return out.getvalue()


def _parse(text: str) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise GanatomyError(f"expected an SVG, got something that is no XML: {error}") from error
    if root.getroottree().docinfo.doctype or etree.QName(root).localname != "svg":
        raise GanatomyError("expected a plain SVG")
    return root


def _clean(root: etree._Element) -> etree._Element:
    """Return a copy that holds shapes and text only."""
    counted = 0

    def copy(element: etree._Element) -> etree._Element | None:
        nonlocal counted
        counted += 1
        if counted > MOST_ELEMENTS:
            raise GanatomyError(f"the figure has more than {MOST_ELEMENTS} parts")
        if not isinstance(element.tag, str) or etree.QName(element).localname not in SHAPES:
            return None
        new = etree.Element(f"{{{SPACE}}}{etree.QName(element).localname}", nsmap={None: SPACE})
        for name, value in element.attrib.items():
            if name in TAKEN and "url(" not in value:
                new.set(name, _style(value) if name == "style" else value)
        if etree.QName(element).localname in ("text", "tspan"):
            new.text = (element.text or "").translate(SIGNS)
            new.set("font-family", FONT if _is_latin("".join(element.itertext())) else _wide_font())
        for child in element:
            part = copy(child)
            if part is not None:
                part.tail = (child.tail or "").translate(SIGNS) if new.tag.endswith(("text", "tspan")) else None
                new.append(part)
        return new

    clean = copy(root)
    assert clean is not None
    for side in ("width", "height"):
        try:
            fits = 0 < float(clean.get(side, "0").removesuffix("px")) <= MOST_SIDE
        except ValueError:
            fits = False
        if not fits:
            raise GanatomyError(f"expected a figure with a {side} of at most {MOST_SIDE} pixels")
    return clean


def _is_latin(text: str) -> bool:
    """Whether the fonts of every PDF reader have all characters of a text."""
    try:
        text.translate(SIGNS).encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=1)
def _wide_font() -> str:
    """Return the name of a font with more characters, made known here; the usual font's if there is none."""
    from svglib.fonts import register_font

    for path in WIDE_FILES:
        if Path(path).is_file() and all(register_font(WIDE, path, weight)[1] for weight in ("normal", "bold")):
            return WIDE
    return FONT


def _style(text: str) -> str:
    """Return the declarations that say how a shape is painted; fonts are ours."""
    pairs = [part.split(":", 1) for part in text.split(";") if ":" in part]
    known = [(name.strip(), value.strip()) for name, value in pairs if name.strip() in TAKEN - {"style"}]
    # svglib knows the opacity of a fill, not that of a shape.
    return "; ".join(f"{'fill-opacity' if name == 'opacity' else name}: {value}" for name, value in known)

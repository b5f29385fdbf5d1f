"""A figure's SVG as a part of a page: its own ids, the page's colours, and a third of the bytes.

What matplotlib writes is a file of its own. Several of them in one page would share ids; a style in one would hold for
all; and every point of a cloud repeats the style that its neighbours have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # of what matplotlib has just written

from campus_tune.report.characters import visible

if TYPE_CHECKING:
    from markupsafe import Markup

ROWS = "rows-"  # before the id of a group whose points are rows: the page's script finds them by it
PER_INCH, POINTS = 100, 72  # CSS pixels of a page, points of a file
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LONG = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is less than is seen
NUMBERS = ("d", "x", "y", "width", "height", "transform", "points")
REFERENCE = re.compile(r"(url\(|^)#([\w-]+)")  # and no colour


def inline_svg(text: str, name: str, *, alt: str, colours: Mapping[str, str]) -> Markup:
    """The SVG as it stands inside of a page.

    Args:
        text: of the file that matplotlib has written.
        name: of the picture, unlike that of any other in the page.
        alt: what is seen, in words.
        colours: that follow the page's, by the names of its variables.
    """
    from markupsafe import Markup

    root = ElementTree.fromstring(NO_XML.sub("\ufffd", text))  # our own
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
        for key in [key for key in each.attrib if key.startswith("{")]:
            each.set(key.rpartition("}")[2], each.attrib.pop(key))
        if each.tag != "text":
            each.text = None
        each.tail = None
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    used = [found for each in root.iter() for value in each.attrib.values() for _, found in REFERENCE.findall(value)]
    ids = {old: f"{name}-{i}" for i, old in enumerate(dict.fromkeys(used))}  # theirs are other ones every time
    for each in root.iter():
        _own(each, ids, colours)
        _share_style(each)
    box = root.attrib["viewBox"]
    wide = float(box.split()[2]) * PER_INCH / POINTS
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": visible(alt), "style": f"max-width: {wide:.0f}px"})
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # escaped by the writer


def _own(each: ElementTree.Element, ids: Mapping[str, str], colours: Mapping[str, str]) -> None:
    """Ids that are this picture's, numbers that are short, colours that are the page's."""
    for key, value in list(each.attrib.items()):
        if key == "id":
            del each.attrib[key]
            if value.startswith(ROWS):
                each.set("data-rows", value.removeprefix(ROWS))
            if value in ids:
                each.set(key, ids[value])
        elif key in NUMBERS:
            each.set(key, " ".join(LONG.sub(r"\1", value).split()))
        elif key in ("style", "clip-path", "href"):
            value = REFERENCE.sub(lambda found: f"{found[1]}#{ids[found[2]]}", value)
            for colour, variable in colours.items():
                value = value.replace(colour, f"var({variable})")
            each.set(key, value)


def _share_style(group: ElementTree.Element) -> None:
    """What all points of a cloud look like, said once."""
    styles = {child.get("style") for child in group}
    if group.tag != "g" or len(group) < 2 or len(styles) > 1 or "style" in group.attrib:
        return
    style = styles.pop()
    if style is None or any(child.tag != "use" for child in group):
        return
    group.set("style", style)
    for child in group:
        del child.attrib["style"]

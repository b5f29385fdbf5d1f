"""A page as HTML: one file that needs nothing else, and says so to the browser.

Scripts, styles and pictures are inside. A content security policy forbids every request, so a page that was passed on
by mail cannot call home, and text from a training set cannot become anything but text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from campus_tune.report.figures import Picture

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = "templates"
SECTION = re.compile(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', re.DOTALL)


class PageParts(NamedTuple):
    """What a folder's page is made of.

    Args:
        content: the variables of its template.
        pictures: of the page.
        finished: there is nothing left to wait for.
    """

    content: dict[str, Any]
    pictures: list[Picture]
    finished: bool


@cache
def environment(folder: Path | None = None) -> Environment:
    """What fills in the templates.

    Args:
        folder: with templates of somebody else's pages; those of the package are found in any case.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined

    own = PackageLoader("campus_tune.report", TEMPLATES)
    environment = Environment(
        loader=own if folder is None else ChoiceLoader([FileSystemLoader(folder), own]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ticks": ticks, "sections": sections}
    environment.globals["markdown"] = ""  # of pages that say nothing for a pull request
    return environment


def ticks(text: str) -> Markup:
    """Text with what stands between backticks set as code; all of it escaped.

    >>> str(ticks("`a<b` & more"))
    '<code>a&lt;b</code> &amp; more'
    """
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:  # one of them stands alone
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def sections(body: str) -> Markup:
    """Links to the sections of a page; nothing where there are few.

    >>> print(sections('<section id="a"><h2>One &amp; two</h2></section><section id="b"><h2>Three</h2></section>'))
    <nav aria-label="Sections"><ul>
    <li><a href="#a">One &amp; two</a></li>
    <li><a href="#b">Three</a></li>
    </ul></nav>
    """
    from markupsafe import Markup

    found = SECTION.findall(body)
    items = "\n".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in found)
    return Markup(f'<nav aria-label="Sections"><ul>\n{items}\n</ul></nav>' if len(found) > 1 else "")


def render(template: str, content: Mapping[str, Any], *, refresh_s: float | None = None) -> str:
    """A template filled in.

    Args:
        template: its name without `.html.jinja`.
        content: its variables; a missing one is an error.
        refresh_s: seconds after which the browser reads the page again; None never does.
    """
    return environment().get_template(f"{template}.html.jinja").render(**content, refresh_s=refresh_s)

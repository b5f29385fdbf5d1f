r"""Docstrings as answers: the parts of a card, and lists of words with their meanings. Nothing is said a second time.

>>> card("Root pacing.\n\nOpens fast.\n\nArgs:\n    power: p.\n\nReference:\n    Platanios et al. 2019.")
Card(line='Root pacing.', text='Opens fast.', source='Platanios et al. 2019.')
>>> meanings("Words.\n\n    helped         it is there,\n                   and sure\n    none at all    it is not\n")
{'helped': 'it is there, and sure', 'none at all': 'it is not'}
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2]
_SECTION = re.compile(r"^([A-Z][\w ]*):\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)  # `Args:` and what is indented below it
_EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n)*", re.MULTILINE)
_MEANING = re.compile(r"^ {4}(\w+(?: \w+)*) {2,}(\S.*(?:\n {12,}\S.*)*)", re.MULTILINE)


class Card(NamedTuple):
    """A docstring's first line, what follows, and the papers that it names."""

    line: str
    text: str
    source: str


def card(doc: str) -> Card:
    """The parts of a docstring that a person asks for: no arguments, which are a table, and no doctests.

    Args:
        doc: with its indentation taken off.
    """
    line, _, rest = f"{doc.strip()}\n".partition("\n")
    sections = {name: inspect.cleandoc(f"\n{body}") for name, body in _SECTION.findall(rest)}
    text = _EXAMPLE.sub("", _SECTION.sub("", rest))
    differs = next((f"Differs from the paper: {sections[name]}" for name in sections if name.startswith("Differs")), "")
    paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", text)]
    return Card(line, "\n\n".join(part for part in [*paragraphs, differs] if part), sections.get("Reference", ""))


def meanings(doc: str) -> dict[str, str]:
    """The words that a docstring lists with what each of them means, two blanks or more between the two.

    Args:
        doc: with its indentation taken off.
    """
    lines = ((word, re.sub(r"\n +", " ", said).rstrip()) for word, said in _MEANING.findall(doc))
    return {word: re.sub(r" {2,}", ": ", said) for word, said in lines}


@cache
def tree(module: str) -> ast.Module:
    """The source of one of our modules, parsed; nothing of it is imported.

    Args:
        module: dotted, without the package: `run.ledger`.
    """
    path = PACKAGE.joinpath(*module.split("."))
    file = path.with_suffix(".py")
    path = file if file.exists() else path / "__init__.py"
    return ast.parse(path.read_text("utf-8"))


def module_doc(module: str) -> str:
    """The docstring of one of our modules."""
    return ast.get_docstring(tree(module)) or ""


def class_docs(module: str) -> dict[str, str]:
    """The docstrings of a module's classes by the `name` that they give themselves, else by their own."""
    found = {}
    for node in tree(module).body:
        if isinstance(node, ast.ClassDef):
            values = [each.value for each in node.body if isinstance(each, ast.Assign) and _sets_name(each)]
            named = [str(value.value) for value in values if isinstance(value, ast.Constant)]
            found[named[0] if named else node.name] = ast.get_docstring(node) or ""
    return found


def _sets_name(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "name" for target in node.targets)

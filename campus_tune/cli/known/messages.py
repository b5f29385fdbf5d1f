"""Everything that campus_tune says to a person, found by a piece of it, with the reason that stands beside it.

The source is read, and nothing of it imported: each text in it that is a sentence, with `…` for what is filled in; the
error that carries it, or how grave a finding is; and why it is raised, from `Raises:` of the docstring around it. So
there is no list of messages that could fall behind.

>>> found = find_message("`stages` must be a whole number of at least 1, got 0. Raise it.")
>>> found[0].name
'`…` must be a whole number of at least …'
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache

from campus_tune.cli.known.docstrings import PACKAGE, card, class_docs, tree
from campus_tune.cli.known.entry import KnownName

HOLE = "…"  # what a message is filled in with
FEWEST = 3  # words of a text that is looked at
ENOUGH = 0.7  # share of the words, of what is asked or of the message, that must stand in both
MOST = 3  # messages that are shown
_WORD = re.compile(r"\w+")
_RAISED = re.compile(r"^Raises:\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
_PAGE = "questions"


@dataclass(frozen=True)
class SaidText:
    """One text of the source that a person may read.

    Args:
        text: with `…` for what is filled in.
        kind: the error that carries it, or the severity of a finding; "line" where neither is seen.
        module: dotted, that it stands in.
        function: around it.
        why: from the docstring of the function, or of its module.
    """

    text: str
    kind: str
    module: str
    function: str
    why: str

    @property
    def words(self) -> list[str]:
        """In small letters, without what is filled in."""
        return words_of(self.text)


def words_of(text: str) -> list[str]:
    """The words of a text in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def said(words: Collection[str] = ()) -> Iterator[SaidText]:
    """Every text of the package that a person may read.

    Args:
        words: in small letters; files with less than half of them are passed over. They take a second to parse.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text("utf-8").lower()
        if 2 * sum(word in source for word in words) >= len(words):
            yield from texts_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"))


@cache
def texts_of(module: str) -> tuple[SaidText, ...]:
    """The texts of a module; a docstring, and what stands inside of another text, is none.

    Args:
        module: dotted.
    """
    found: list[SaidText] = []
    stack: list[tuple[ast.AST, tuple[ast.AST, ...]]] = [(tree(module), ())]
    while stack:
        node, above = stack.pop()
        if isinstance(node, ast.Call) and _named(node.func).endswith("Finding") and len(node.args) > 1:
            text: str | None = _of_finding(node, above)
        else:
            text = template(node)
        help_text = text is not None and "\nexample:" in text
        if text is not None and not (help_text or isinstance(above[-1], ast.Expr)) and len(words_of(text)) >= FEWEST:
            found.append(_told(" ".join(text.split()), (*above, node), module))
        inside = ast.walk(node) if text is not None else ()
        fills = [one.value for one in inside if isinstance(one, ast.FormattedValue)]  # words of its own in what it says
        stack += [(child, (*above, node)) for child in (ast.iter_child_nodes(node) if text is None else fills)]
    return tuple(found)


def _of_finding(node: ast.Call, above: Sequence[ast.AST]) -> str:
    """What a finding says, and what to do about it, in one; a name stands for the text that was given to it before."""
    function = next((one for one in reversed(above) if isinstance(one, ast.FunctionDef)), above[0])
    given = [one for one in ast.walk(function) if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)]
    before = sorted((one for one in given if one.lineno <= node.lineno), key=lambda one: one.lineno)
    texts = {ast.unparse(one.targets[0]): template(one.value) for one in before}
    return " ".join(template(part) or texts.get(ast.unparse(part)) or HOLE for part in node.args[1:])


def _named(function: ast.expr) -> str:
    """What is called, without what it is of."""
    return str(getattr(function, "attr", getattr(function, "id", "")))


def template(node: ast.AST) -> str | None:
    """A text as it is written, with `…` for what is filled in; None for what is no text.

    >>> template(ast.parse("f'got {n} rows' + tail", mode="eval").body)
    'got … rows…'
    """
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [template(side) for side in (node.left, node.right)]
        return None if sides == [None, None] else "".join(HOLE if side is None else side for side in sides)
    return None


def _told(text: str, above: Sequence[ast.AST], module: str) -> SaidText:
    """A text with who says it and why."""
    function = next((node for node in reversed(above) if isinstance(node, ast.FunctionDef)), None)
    kind = _kind(above)
    doc = (ast.get_docstring(function) or "") if function is not None else ""
    raised = _RAISED.search(f"{doc}\n")
    reasons = inspect.cleandoc(f"\n{raised[1]}") if raised else ""
    own = re.search(rf"^{re.escape(kind)}: ((?:.*(?:\n .*)*))", reasons, re.MULTILINE)
    why = (
        " ".join(own[1].split()) if own else card(doc).line if doc else card(ast.get_docstring(tree(module)) or "").line
    )
    return SaidText(text, kind, module, "" if function is None else function.name, why)


def _kind(above: Sequence[ast.AST]) -> str:
    """The error that is raised with a text, or how grave the finding is; "line" for another text."""
    for node in reversed(above):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = _named(node.exc.func)
            return name if name[:1].isupper() else "line"  # `self.error` is a class that is not seen here
        if isinstance(node, ast.Call) and _named(node.func).endswith("Finding") and node.args:
            severity = node.args[0]
            return str(severity.value) if isinstance(severity, ast.Constant) else "finding"
        if isinstance(node, ast.FunctionDef):
            break
    return "line"


def find_message(piece: str) -> list[KnownName]:
    """The messages that a piece of text is most likely of, the likeliest first; none where nothing is near.

    Args:
        piece: of a message, as it was said or with other values in it.
    """
    asked = words_of(piece)
    if not asked:
        return []
    ranked = []
    for one in said(set(asked)):
        there = one.words
        if len(set(asked) & set(there)) < min(3, len(asked)):
            continue
        blocks = SequenceMatcher(None, asked, there, autojunk=False).get_matching_blocks()
        same = sum(block.size for block in blocks if block.size > 1)  # a word alone is there by chance
        nearness = max(same / len(asked), same / max(len(there), FEWEST + 2))
        if nearness >= ENOUGH and same >= min(3, len(asked)):
            ranked.append((same / len(asked) + same / len(there), one))
    ranked.sort(key=lambda pair: -pair[0])
    whole = {one.text for _, one in ranked}  # a part of a message is told as the message
    ranked = [(score, one) for score, one in ranked if not any(one.text in text and one.text != text for text in whole)]
    best = {one.text: one for score, one in reversed(ranked) if score >= ranked[0][0] - 0.15}
    return [_as_known(one) for one in reversed(best.values())][:MOST]


def _as_known(one: SaidText) -> KnownName:
    errors = class_docs("words.errors")
    facts = {"because": one.why}
    if one.kind in errors:
        facts["it is a"] = f"{one.kind}: {card(errors[one.kind]).line}"
    facts["said by"] = f"{one.module.replace('.', '/')}.py"
    kind = "message" if one.kind in ("line", "finding") else "error" if one.kind[:1].isupper() else one.kind
    return KnownName(kind, one.text, one.text, facts=facts, page=_PAGE)


def errors() -> list[KnownName]:
    """The classes of errors, each with what it stands for."""
    cards = {name: card(doc) for name, doc in class_docs("words.errors").items()}
    facts = {"of yours": "`campus-tune explain` with a piece of what it said"}
    return [KnownName("error", name, one.line, one.text, facts, page=_PAGE) for name, one in cards.items()]


def warnings() -> list[KnownName]:
    """What `check` finds, and a run warns of at its start: each with how grave it is."""
    return [
        KnownName(one.kind, one.text, one.text, facts={"because": one.why}, page=_PAGE)
        for one in said()
        if one.kind in ("refused", "error", "warning", "info")
    ]

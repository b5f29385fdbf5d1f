"""The pages that users read, the README and the guide, taken apart: their code blocks, tables and inline code."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "campus_tune/guide").glob("*.md"))
PAGES = [README, *GUIDE]
LANGUAGES = {"bash", "python", "yaml", "json", "text", "toml"}


def name_of(page: Path) -> str:
    """A page as a test names it."""
    return page.stem


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def all_blocks(language: str) -> list[tuple[str, str]]:
    """(page, block) of all pages."""
    return [(name_of(page), block) for page in PAGES for block in blocks(page, language)]


def commands() -> list[tuple[str, str]]:
    """(page, line) of every line of bash; lines that go on after a backslash are one."""
    joined = ((name, block.replace("\\\n", " ")) for name, block in all_blocks("bash"))
    return [(name, line) for name, block in joined for line in block.splitlines() if line and not line.startswith("#")]


def words_of(line: str) -> list[str]:
    """A line as the shell hands it on, without a comment."""
    return shlex.split(line, comments=True)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```\n", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def inline(page: Path) -> list[str]:
    """Every piece of inline code of a page."""
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(page))]


def table(page: Path, first_column: str) -> dict[str, list[str]]:
    """The rows of the table whose first heading is `first_column`: first cell without backticks → the other cells."""
    lines = page.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |")) + 2
    rows: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        first, *others = [cell.strip() for cell in line.strip("|").split(" | ")]
        rows[first.strip("` ")] = others
    return rows


@cache
def source_strings() -> str:
    """Every string of the package, the parts of f-strings joined, one behind the other."""
    texts = []
    for path in (ROOT / "campus_tune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)

"""How the house is kept, in numbers: fragments, names and types, read from the source. What is too much fails here."""

from __future__ import annotations

import ast
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "campus_tune"

CALLED_ONCE = 0.09  # share of all functions that are private and stand in one place: each needs a reason
TWICE = {
    "CampusCallback"
}  # the run's and, with a report, everybody's: transformers finds a checkpoint's state by the name
ANY = 0.03  # share of parameters that say nothing of what they take
LINES = (8, 14)  # of the median function
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def called_once(tree: ast.Module) -> list[str]:
    """Private functions and methods that their module names in one place, where it calls them.

    One that is handed on instead of called (a callback, a type of argparse, work for another process), and one that a
    decorator makes into something else (a property, a context manager), has to be a function: these do not count.
    """
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = Counter(name for func in called if (name := getattr(func, "id", getattr(func, "attr", None))))
    named = Counter(getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(tree))
    return [
        node.name
        for node in functions(tree)
        if node.name.startswith("_") and not node.name.endswith("__") and not node.decorator_list
        if calls[node.name] == named[node.name] == 1
    ]


def parameters(tree: ast.AST) -> Iterator[str]:
    """The annotation of every parameter; "" where there is none."""
    for node in functions(tree):
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        for one in every:
            if one is not None and one.arg not in ("self", "cls"):
                yield ast.unparse(one.annotation) if one.annotation else ""


def test_a_private_function_that_is_called_once_is_the_exception() -> None:
    fragments = [f"{path.name}:{name}" for path, tree in trees().items() for name in called_once(tree)]
    share = len(fragments) / sum(len(functions(tree)) for tree in trees().values())
    assert share < CALLED_ONCE, f"{share:.1%} of all functions: {fragments}"


def test_parameters_say_what_they_take() -> None:
    found = [annotation for tree in trees().values() for annotation in parameters(tree)]
    assert "" not in found
    assert found.count("Any") / len(found) < ANY, f"{found.count('Any')} of {len(found)}"


def test_the_median_function_is_neither_a_fragment_nor_a_page() -> None:
    every = {node for tree in trees().values() for node in functions(tree)}
    inner = {one for node in every for one in functions(node) if one is not node}  # a closure is part of its function
    lines = [node.end_lineno - node.lineno + 1 for node in every - inner if node.end_lineno]
    assert LINES[0] <= statistics.median(lines) <= LINES[1]


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in TWICE} == {}


def test_a_folder_says_its_name() -> None:
    for folder in {path.parent for path in trees() if path.parent != PACKAGE}:
        said = ast.get_docstring(trees()[folder / "__init__.py"]) or ""
        assert said.startswith(f"{folder.name}: "), folder


def test_the_measures_see_what_they_are_for() -> None:
    tree = ast.parse(
        """
class Thing:
    def _once(self, a: Any, *rest: int) -> None: ...
    def _twice(self) -> None: ...
    @property
    def _shown(self) -> int: ...
    def use(self) -> None:
        self._once(1); self._twice(); self._twice(); self._shown; hand_on(self._handed)
    def _handed(self, other) -> None: ...
"""
    )
    assert called_once(tree) == ["_once"]
    assert list(parameters(tree)) == ["Any", "int", ""]

"""Imports point one way: a room opens only rooms that stand below it. Read from the source, not run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "campus_tune"

# The one list of the rule: the folders of the package, from the ground up. A room opens only rooms above it here.
ROOMS = [
    "words",  # what all parts share
    "method",  # what is trained next
    "data",  # rows
    "metrics",  # what makes a row hard
    "testing",  # what every part promises, for the authors of others
    "recipe",  # YAML → settings
    "model",  # asking a model
    "scores",  # one number per row
    "evaluate",  # official tasks
    "preview",  # before a step is trained
    "run",  # one run inside the trainer
    "compare",  # did it help?
    "report",  # pages
    "read",  # a finished run, read back
    "cli",  # the command line
]
TOP = ["__init__", "__main__"]  # the package's own door and the command's, above all rooms
WORDS_ONLY = ["demo", "evaluate.sandbox"]  # could leave the house: of ours they open `words` and nothing else

# The plan needs no model and no torch: numpy and Python's own library are all that these know of others.
NUMPY_ONLY = "method"

HEAVY = {"torch", "transformers", "trl", "accelerate", "peft", "datasets"}
# Below `model` the trainer's libraries are known only here:
HEAVY_BELOW = {
    "data.as_dataset": {"datasets"},  # rows of a file become a Dataset
    "data.plain": {"datasets", "transformers"},  # rows by a name of the hub; `check` counts tokens as the model would
    "metrics.parallel": {"datasets"},  # whether the user wants progress bars
    "metrics.scorer": {"torch"},  # its solver
    "testing.weights": {"torch"},  # a live weight is the same under numpy and torch
    "recipe.schedule": {"torch", "transformers"},  # makes the learning-rate schedule that a YAML asks for
}
LAUNCHERS = {  # the same for accelerate's launcher and TRL's parser, whose words a YAML is made of
    "recipe.launched": {"accelerate"},
    "recipe.trl_yaml": {"trl"},
    "recipe.mixture": {"trl"},
}


@dataclass(frozen=True)
class Import:
    of: str  # dotted: of ours without `campus_tune.`, of others the first part
    ours: bool


@cache
def modules() -> list[str]:
    names = (".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") if name != "__init__" else name for name in names)


def _imports_in(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from _imports_in(child)


def is_folder(module: str) -> bool:
    return PACKAGE.joinpath(*module.split("."), "__init__.py").exists()


@cache
def imports(module: str) -> frozenset[Import]:
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if is_folder(module) else path.with_suffix(".py")
    return read_imports(path.read_text("utf-8"), modules())


def read_imports(source: str, ours: Iterable[str]) -> frozenset[Import]:
    found = set()
    for node in _imports_in(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, "a relative import"
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in within if name.removeprefix("campus_tune.") in ours]
            rest = [str(node.module)] if len(known) < len(within) else []
            names = [*known, *rest]
        for name in names:
            if name == "campus_tune":  # whose names come from the top
                found.add(Import("__init__", ours=True))
            elif name.startswith("campus_tune."):
                found.add(Import(name.removeprefix("campus_tune."), ours=True))
            else:
                found.add(Import(name.split(".")[0], ours=False))
    return frozenset(found)


# -- the rules, each a function of a graph, so that a test can hand it a wrong one -------------------------------------

Graph = Mapping[str, Iterable[str]]  # module → the modules of ours that it imports


def room(module: str) -> str:
    return module.split(".")[0]


def upward(graph: Graph) -> list[str]:
    """Imports of a room that does not stand below."""
    place = {name: k for k, name in enumerate([*ROOMS, *TOP])}
    return [
        f"{module} → {other}"
        for module, others in graph.items()
        if room(module) in place
        for other in others
        if room(other) != room(module) and place.get(room(other), -1) > place[room(module)]
    ]


def strangers(graph: Graph) -> list[str]:
    """Imports of the rooms that could leave the house which would keep them in it."""
    return [
        f"{module} → {other}"
        for folder in WORDS_ONLY
        for module, others in graph.items()
        if f"{module}.".startswith(f"{folder}.")
        for other in others
        if room(other) != "words" and not f"{other}.".startswith(f"{folder}.")
    ]


def past_the_door(graph: Graph) -> list[str]:
    """Imports of a module two levels down: a folder inside of a room is opened from outside by its door only."""
    return [
        f"{module} → {other}"
        for module, others in graph.items()
        for other in others
        if other.count(".") == 2 and room(other) != room(module)
    ]


def homeless(names: Iterable[str]) -> list[str]:
    """Modules beside the rooms: each folder is one room, and there is nothing else."""
    return [name for name in names if room(name) not in [*ROOMS, *TOP, *WORDS_ONLY]]


def circle(graph: Graph) -> str:
    """The first circle of imports; "" where there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> str:
        if module in path:
            return " → ".join([*path[path.index(module) :], module])
        if module in done:
            return ""
        done.add(module)
        return next(filter(None, (visit(other, [*path, module]) for other in graph.get(module, ()))), "")

    return next(filter(None, (visit(module, []) for module in graph)), "")


def folders_of(graph: Graph) -> Graph:
    """The same graph between the folders of a room: `run.stream.loader` and `run.stream.watch` are one."""
    of: dict[str, set[str]] = {}
    for module, others in graph.items():
        folder = ".".join(module.split(".")[:2]) if module.count(".") == 2 else module
        for other in others:
            to = ".".join(other.split(".")[:2]) if other.count(".") == 2 else other
            if to != folder:
                of.setdefault(folder, set()).add(to)
    return of


@cache
def house() -> dict[str, set[str]]:
    return {module: {one.of for one in imports(module) if one.ours} - {module} for module in modules()}


def test_every_module_is_in_a_room_and_every_room_has_modules() -> None:
    assert len(modules()) > 100
    assert homeless(modules()) == []
    assert {room(module) for module in modules()} == {*ROOMS, *TOP, "demo"}
    assert homeless(["words.files", "helpers.misc"]) == ["helpers.misc"]


def test_a_room_opens_only_rooms_that_stand_below_it() -> None:
    assert upward(house()) == []
    assert upward({"method.pacing": {"run.run"}, "run.run": {"method.pacing"}}) == ["method.pacing → run.run"]
    assert upward({"recipe.config": {"__init__"}}) == ["recipe.config → __init__"]


def test_what_could_leave_the_house_knows_nothing_of_the_rest() -> None:
    assert strangers(house()) == []
    assert strangers({"demo.tiny": {"words.files", "recipe.config"}}) == ["demo.tiny → recipe.config"]


def test_a_folder_inside_of_a_room_has_a_door() -> None:
    assert past_the_door(house()) == []
    wrong = {"report.page": {"run.told.card"}, "run.run": {"run.told.card"}, "cli.sft": {"run.told"}}
    assert past_the_door(wrong) == ["report.page → run.told.card"]


def test_no_circle_of_imports_closes() -> None:
    assert circle(house()) == ""
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == "b → c → b"


@pytest.mark.parametrize("name", [*ROOMS, "demo"])
def test_no_circle_closes_between_the_folders_of_a_room(name: str) -> None:
    inside = {module: house()[module] for module in modules() if room(module) == name and module != name}
    assert circle(folders_of(inside)) == ""


def test_a_circle_between_folders_is_found() -> None:
    modules_are_fine = {"run.a.x": {"run.b.y"}, "run.b.z": {"run.a.w"}, "run.b.y": set[str](), "run.a.w": set[str]()}
    assert circle(modules_are_fine) == ""
    assert circle(folders_of(modules_are_fine)) == "run.a → run.b → run.a"


@pytest.mark.parametrize("module", [module for module in modules() if room(module) == NUMPY_ONLY])
def test_the_method_is_made_of_numpy_and_nothing_else(module: str) -> None:
    foreign = {one.of for one in imports(module) if not one.ours} - set(sys.stdlib_module_names)
    assert foreign <= {"numpy"}


def below_the_model() -> list[str]:
    return [module for module in modules() if room(module) in ROOMS[: ROOMS.index("model")]]


def test_only_from_model_up_are_the_trainers_libraries_known() -> None:
    found = {module: {one.of for one in imports(module) if one.of in HEAVY} for module in below_the_model()}
    assert {module: libraries for module, libraries in found.items() if libraries} == {**HEAVY_BELOW, **LAUNCHERS}
    assert len(HEAVY_BELOW) <= 6


@pytest.mark.parametrize("file", [".github/CONTRIBUTING.md", "campus_tune/__init__.py"])
def test_the_tree_that_is_shown_is_the_house(file: str) -> None:
    shown = re.findall(r"^ +([a-z]+) {2,}\S.*\w", (ROOT / file).read_text("utf-8"), flags=re.MULTILINE)
    assert shown[: len(ROOMS) + 1] == ["demo", *reversed(ROOMS)]


def test_imports_are_read_wherever_they_stand() -> None:
    source = """
import torch
from campus_tune.run import ledger, run
from campus_tune.run.run import CampusRun
if TYPE_CHECKING:
    from campus_tune.cli import main
def late():
    from campus_tune import CampusCallback
"""
    assert read_imports(source, ["run", "run.ledger", "run.run", "cli.main"]) == {
        Import("torch", ours=False),
        Import("run.ledger", ours=True),
        Import("run.run", ours=True),
        Import("__init__", ours=True),
    }


def loaded_by(code: str) -> set[str]:
    """The third-party packages that running `code` in a new process loads."""
    show = "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code + show], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "code", ["import campus_tune", "import campus_tune.cli.main", "import campus_tune.preview.simulate"]
)
def test_importing_the_package_loads_no_torch(code: str) -> None:
    assert loaded_by(code) & (HEAVY | {"pandas", "matplotlib", "pyarrow"}) == set()

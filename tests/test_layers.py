"""Imports point one way, and only the integrations know the trainer's libraries. Read from the source, not run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "campus_tune"

# From the bottom up. A module imports from the layers below it; inside a layer only as far as no circle closes.
# A name that ends in a dot stands for all modules of that folder.
LAYERS: dict[str, list[str]] = {
    "words": ["types", "errors", "registry"],
    "numpy core": [
        "arrays", "budget", "competence", "files", "learner", "ledger", "mixing", "orders", "pacing", "stats",
        "strict_yaml", "fields", "tables", "versions", "progress", "library_warnings", "help_text",
    ],
    "method": [
        "stages", "curriculum", "selectors.", "difficulty.", "health", "grouping", "lr_mass", "overlap", "cache",
        "shards", "shapes", "ledger_lines",
    ],
    "recipe": [
        "recipe", "recipe_blocks", "method", "simulate", "report_plan", "training_yaml", "trainer_settings",
        "trl_values", "plain_rows", "conversions", "row_shapes", "same_stream",
        "accelerate_yaml", "launch_rules",
    ],
    "report": ["report."],
    "integrations": ["integrations.", "evaluation."],
    "doors": [
        "check", "check_budget", "prepared_rows", "sft", "sft_arguments", "sft_trainer", "proxy", "score", "launch",
        "demo.", "compare.",
    ],
    "command line": ["cli", "__init__", "__main__"],
}  # fmt: skip

# The parts of a plan: numpy and Python's own library are all they know, so `simulate` needs no model and no torch.
PLAN = {"types", "errors", "registry", *LAYERS["numpy core"], "stages", "curriculum", "selectors."}
PLAN |= {"health", "grouping"}
PLAN -= {"files", "strict_yaml"}  # these read what a user wrote: parquet and YAML
PLAN -= {"progress"}  # what a person sees: tqdm

HEAVY = {"torch", "transformers", "trl", "accelerate", "peft", "datasets"}
# Outside of the integrations, the libraries are imported where they are used, and only here:
HEAVY_WHEN_USED = {
    "difficulty.parallel": {"datasets"},  # whether the user wants progress bars
    "accelerate_yaml": {"accelerate"},  # what its launcher and its YAML know
    "launch_rules": {"accelerate", "torch"},  # what a launch would make of this machine
    "launch": {"accelerate", "torch"},  # is accelerate's launcher
    "plain_rows": {"datasets", "transformers"},  # `check` looks at the rows with the user's own tokenizer
    "prepared_rows": {"datasets", "transformers", "trl"},  # lets TRL's own trainer prepare the rows
    "check_budget": {"peft", "torch", "transformers", "trl"},  # counts the weights of a model that is not loaded
    "sft_arguments": {"trl"},  # whose parser it is
    "sft_trainer": {"datasets", "transformers", "trl"},  # is TRL's own script plus a callback
    "difficulty.scorer": {"torch"},  # its solver
    "trl_values": {"torch", "transformers"},  # tries the schedule that they ask for
    "training_yaml": {"torch", "transformers"},  # asks the trainer's arguments what they make of a YAML
    "demo.smollm2": {"torch"},  # real weights for the quickstart
    "demo.tiny": {"torch", "transformers"},  # a model of a few thousand parameters for tests
}

# Circles closed by an import inside a function, each with the reason why it is not worth another module.
CLOSED_WHEN_USED = {("integrations.attach", "integrations.callback")}  # attach() is a way to add the callback


@dataclass(frozen=True)
class Import:
    of: str  # dotted: of ours without `campus_tune.`, of others the first part
    ours: bool
    when_used: bool  # inside a function


@cache
def modules() -> list[str]:
    names = (".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") if name != "__init__" else name for name in names)


def _imports_in(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        yield from _imports_in(child, inside or isinstance(child, ast.FunctionDef | ast.Lambda))


@cache
def imports(module: str) -> frozenset[Import]:
    path = PACKAGE.joinpath(*module.split("."))
    package = path / "__init__.py"
    path = package if package.exists() else path.with_suffix(".py")
    found = set()
    for node, inside in _imports_in(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{module} imports relatively"
            names = [str(node.module)]
            if node.module and node.module.split(".")[0] == "campus_tune":
                within = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name for name in within if name.removeprefix("campus_tune.") in modules()] or names
        for name in names:
            ours = name.split(".")[0] == "campus_tune"
            found.add(Import(name.removeprefix("campus_tune.") if ours else name.split(".")[0], ours, inside))
    return frozenset(found)


def among(module: str, names: set[str] | list[str]) -> bool:
    return any(module == name or (name[-1] == "." and f"{module}.".startswith(name)) for name in names)


def layer(module: str) -> int:
    places = [i for i, names in enumerate(LAYERS.values()) if among(module, names)]
    assert len(places) == 1, f"campus_tune/{module}: give it one place in LAYERS, it has {len(places)}"
    return places[0]


def test_every_module_has_its_place_and_every_place_its_module() -> None:
    assert len(modules()) > 30
    for module in modules():
        layer(module)
    for names in LAYERS.values():
        for name in names:
            assert any(among(module, [name]) for module in modules()), f"no module is called {name}"


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    up = {one.of for one in imports(module) if one.ours and layer(one.of) > layer(module)}
    assert not up, f"{module} imports {up} from above"


def test_the_parts_of_the_numpy_core_do_not_import_each_other() -> None:
    core = LAYERS["numpy core"]
    pairs = {(module, one.of) for module in core for one in imports(module) if one.ours and one.of in core}
    assert pairs == set()


def test_no_circle_of_imports_closes() -> None:
    graph = {
        module: {one.of for one in imports(module) if one.ours and (module, one.of) not in CLOSED_WHEN_USED}
        for module in modules()
    }
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, f"a circle: {' → '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for other in graph[module] - {module}:
                visit(other, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("module", [module for module in modules() if among(module, PLAN)])
def test_a_plan_is_made_of_numpy_and_nothing_else(module: str) -> None:
    foreign = {one.of for one in imports(module) if not one.ours} - set(sys.stdlib_module_names)
    assert foreign <= {"numpy"}


@pytest.mark.parametrize("module", [module for module in modules() if not among(module, LAYERS["integrations"])])
def test_only_the_integrations_know_the_trainers_libraries(module: str) -> None:
    heavy = {one for one in imports(module) if one.of in HEAVY}
    assert {one.of for one in heavy if not one.when_used} == set()
    assert {one.of for one in heavy} <= HEAVY_WHEN_USED.get(module, set())


def test_every_exception_is_still_needed() -> None:
    for module, libraries in HEAVY_WHEN_USED.items():
        assert libraries <= {one.of for one in imports(module)}, f"{module} no longer needs all of {libraries}"
    for module, other in CLOSED_WHEN_USED:
        assert Import(other, ours=True, when_used=True) in imports(module)


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

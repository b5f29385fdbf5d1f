"""Parts of installed packages: found by name, never imported without need, and named when they clash or break."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from campus_tune.words import plugins, registry
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import Registry
from tests.installed import lay_out

SHAPES: Registry[str] = Registry("shape")

PART = '''
from tests.words.test_plugins import SHAPES
@SHAPES.register("{name}")
def {name}():
    """A {name}."""
    return "{name} of {package}"
'''

Install = Callable[..., None]


@SHAPES.register("circle")
def circle() -> str:
    """A circle."""
    return "ours"


circle.__module__ = "campus_tune.shapes"  # as if it were


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs packages for the length of a test; `shape`s of theirs are forgotten after it."""
    monkeypatch.setitem(sys.modules, "tests.words.test_plugins", sys.modules[__name__])
    monkeypatch.setattr(registry, "_failed", None)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def install(package: str, source: str, version: str = "1.0") -> None:
        parts = {"mine": f"{package}.parts"}
        lay_out(
            tmp_path,
            package,
            version,
            parts=parts,
            modules={f"{package}/__init__.py": "", f"{package}/parts.py": source},
        )

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]
    SHAPES._contested.clear()
    for name in SHAPES.names():
        if name != "circle":
            SHAPES.forget(name)


def part(name: str, package: str) -> str:
    return PART.format(name=name, package=package)


def test_a_part_of_an_installed_package_is_reachable_by_its_name(install: Install) -> None:
    install("angles", part("square", "angles"), "2.5")
    assert SHAPES.build("square") == "square of angles"
    assert plugins.version_of(SHAPES.get("square")) == {"angles": "2.5"}
    assert plugins.owner(SHAPES.get("square")) == "angles 2.5"


def test_nothing_of_a_package_is_imported_while_all_names_are_known(install: Install) -> None:
    install("angles", part("square", "angles"))
    assert SHAPES.build("circle") == "ours"
    assert plugins.version_of(SHAPES.get("circle")) == {}
    assert "angles" not in sys.modules
    assert SHAPES.names() == ["circle"]


def test_a_misspelt_part_of_a_package_is_corrected(install: Install) -> None:
    install("angles", part("square", "angles"))
    with pytest.raises(RecipeError, match=r"must be one of circle, square, got 'sqare'\. Did you mean 'square'\?$"):
        SHAPES.get("sqare")


def test_a_package_that_fails_is_named_where_its_part_may_be_meant_and_none_of_its_parts_stays(
    install: Install,
) -> None:
    install("broken", part("oval", "broken") + "\nimport no_such_library\n", "0.1")
    install("angles", part("square", "angles"))
    assert SHAPES.build("square") == "square of angles"
    with pytest.raises(RecipeError, match=r"must be one of circle, square, got 'oval'") as caught:
        SHAPES.get("oval")
    assert str(caught.value).endswith(
        "The plug-in broken 0.1 cannot be imported (entry point mine = broken.parts: ModuleNotFoundError: No module "
        "named 'no_such_library'). If the part is its, repair or update it."
    )


def test_a_package_that_leaves_while_it_is_imported_is_one_that_fails(install: Install) -> None:
    install("leaves", "raise SystemExit(3)")
    with pytest.raises(RecipeError, match=r"The plug-in leaves 1\.0 cannot be imported .*SystemExit: 3"):
        SHAPES.get("oval")


def test_a_package_that_asks_for_a_part_while_it_is_imported_gets_an_answer(install: Install) -> None:
    install("asks", 'from tests.words.test_plugins import SHAPES\nSHAPES.get("oval")')
    with pytest.raises(RecipeError, match=r"got 'oval'\. The plug-in asks 1\.0 cannot be imported .*got 'oval'"):
        SHAPES.get("oval")


def test_a_name_of_ours_cannot_be_taken_and_both_packages_are_named(install: Install) -> None:
    install("rounds", part("circle", "rounds") + part("oval", "rounds"))
    with pytest.raises(
        RecipeError, match=r"name must be new, got 'circle' twice, of campus_tune and of rounds 1\.0\. Rename"
    ):
        SHAPES.get("oval")
    assert SHAPES.build("circle") == "ours"


def test_a_part_of_two_packages_is_refused_and_both_are_named(install: Install) -> None:
    install("angles", part("square", "angles"))
    install("boxes", part("square", "boxes") + part("cube", "boxes"), "3.0")
    install("cones", part("cone", "cones"))
    assert SHAPES.build("cone") == "cone of cones"
    with pytest.raises(
        RecipeError, match=r"`shape` 'square' is a part of angles 1\.0 and of boxes 3\.0\. Uninstall one\."
    ):
        SHAPES.get("square")


def test_a_part_that_a_script_registers_needs_no_package(install: Install) -> None:
    del install

    @SHAPES.register("mine")
    def mine() -> str:
        """My own."""
        return "my own"

    assert SHAPES.build("mine") == "my own"
    assert plugins.version_of(mine) == {}
    assert plugins.owner(mine) == f"the module {__name__}"
    SHAPES.forget("mine")
    with pytest.raises(RecipeError, match="got 'mine'"):
        SHAPES.get("mine")


def test_a_package_that_was_imported_before_has_its_version_all_the_same(install: Install) -> None:
    install("angles", part("square", "angles"), "2.5")
    __import__("angles.parts")
    assert SHAPES.names() == ["circle", "square"]
    assert plugins.version_of(SHAPES.get("square")) == {"angles": "2.5"}

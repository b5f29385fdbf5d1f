"""`campus-tune schema`: what an editor would take is what we take, and the other way round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campus_tune.cli.main import main
from campus_tune.cli.schema import blocks_schema, suite_schema, training_schema
from campus_tune.compare.search import SearchSettings
from campus_tune.compare.settings import CompareSettings
from campus_tune.evaluate.suites import FOLDER, Seeds, Suite, TaskSetting
from campus_tune.method.pacing import PACINGS
from campus_tune.method.reweight import SHARES
from campus_tune.method.rules import RULES
from campus_tune.method.selectors import SELECTORS
from campus_tune.method.weights import WEIGHTS
from campus_tune.metrics import METRICS
from campus_tune.recipe.blocks import EvaluateSettings, ProbeSettings
from campus_tune.recipe.config import CampusConfig, part_schemas
from campus_tune.recipe.draw_blocks import CellSettings, DomainSettings, PhaseSettings, ReviewSettings, ThinSettings
from campus_tune.recipe.drop_block import DropSettings
from campus_tune.recipe.reader import CheckedSettings
from campus_tune.recipe.steer_blocks import ClockSettings, MilestoneSettings
from campus_tune.recipe.weights_block import WeightSettings
from campus_tune.words.annotated import docs, leaves
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Listed, Worded
from campus_tune.words.strict_yaml import read_value, read_yaml
from campus_tune.words.types import Json
from tests.guide.blocks import all_blocks
from tests.schema_walk import valid
from tests.strategies import examples

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("recipes/compare/*.yaml")])
SHOWN = all_blocks("yaml")
BLOCKS: list[type[CheckedSettings]] = [
    CampusConfig,
    ProbeSettings,
    EvaluateSettings,
    CellSettings,
    DomainSettings,
    PhaseSettings,
    ThinSettings,
    ReviewSettings,
    DropSettings,
    WeightSettings,
    MilestoneSettings,
    ClockSettings,
    CompareSettings,
    SearchSettings,
    Suite,
    TaskSetting,
    Seeds,
]
DEFS = {"$defs": part_schemas()}


@pytest.fixture(scope="module")
def training() -> Json:
    return training_schema()


# -- the schema of a YAML ----------------------------------------------------------------------------------------------


def test_there_are_recipes_and_blocks_of_pages_to_look_at() -> None:
    assert len(RECIPES) == 33
    assert len(SHOWN) > 15


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other
@pytest.mark.parametrize("recipe", [*map(read_yaml, RECIPES), *(read_value(text, page) for page, text in SHOWN)])
def test_every_recipe_and_every_yaml_of_readme_and_guide_is_valid(recipe: Json, training: Json) -> None:
    assert valid(recipe, training)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rte": 1.0},
        {"learning_rate": [1.0]},
        {"learning_rate": "fast"},
        {"warmup_ratio": 2},
        {"bf16": "true"},
        {"eval_strategy": False},
        {"env": ["A"]},
        {"campus": {"metrics": ["lenth"]}},
        {"campus": {"metrics": [{"name": "loss", "redcue": "sum"}]}},
        {"campus": {"metrics": ["perplexity"]}},  # which model?
        {"campus": {"pacing": {"name": "join", "pieces": [{"name": "root", "untl": 1}]}}},
        {"campus": {"stges": 3}},
        {"campus": {"thin": {"how": "top", "since": 0.5}}},
        {"campus": {"thin": {"by": "length"}}},  # how?
        {"campus": {"thin": [{"how": "top"}]}},
        {"campus": {"domains": {"by": "weight"}}},
        {"campus": {"weights": "focal"}},  # always a list
        {"campus": {"weights": [{"name": "focal", "gama": 1}]}},
        {"campus": {"weights": [{"name": "robust", "limit": 0.5}]}},
        {"campus": {"domains": {"shares": {"math": 2}}}},
        {"campus": {"phases": []}},
        {"campus": {"phases": [{"shares": "natural"}]}},  # until when?
        {"campus": {"drop": {"by": "duplicates"}}},  # always a list
        {"campus": {"review": True}},
        {"campus": {"milestones": {"name": "a", "probe": "math", "loss": 1}}},  # always a list
        {"campus": {"milestones": [{"probe": "math", "loss": 1}]}},  # which one?
        {"campus": {"when": {"milestone": "note"}}},
        {"campus": {"when": {"stagnation": "reveiw"}}},
        {"campus": {"when": {"stagnation": ["note", "note"]}}},
        {"campus": {"when": {"regression": {"then": "note", "windw": 3}}}},
        {"campus": {"when": "note"}},
        {"campus": {"clock": "competence"}},  # up to where?
        {"campus": {"clock": {"by": "steps", "target": 0.5}}},
        {"campus": {"domains": {"reweight": "laging"}}},
        {"compare": {"seeds": 3}},  # on which rows?
        {"compare": {"test": "t.jsonl", "evaluate": {"every": 3}}},
        {"compare": {"test": "t.jsonl", "arms": {"other": {"stages": 0}}}},
    ],
)
def test_what_no_command_would_take_is_not_valid(wrong: Json, training: Json) -> None:
    assert valid({"learning_rate": "1e-4", "num_processes": 2, "env": {"A": 1}}, training)
    assert not valid(wrong, training)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_trls_own_fields_are_described_as_trl_describes_them(training: Json) -> None:
    fields = training["properties"]
    assert "learning rate" in fields["learning_rate"]["description"]
    assert {"model_name_or_path", "lora_r", "dataset_name", "report_to", "num_processes", "accelerate_config"} <= set(
        fields
    )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_suite_is_valid(path: Path) -> None:
    suite = read_yaml(path)
    assert valid(suite, suite_schema())
    assert not valid({**suite, "batch": 3}, suite_schema())


def test_the_command_prints_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "suite"]) == 0
    printed = json.loads(capsys.readouterr().out)
    out = tmp_path / "new" / "suite.json"
    assert main(["schema", "suite", "--out", str(out)]) == 0
    assert json.loads(out.read_text("utf-8")) == printed == suite_schema()
    assert f"# yaml-language-server: $schema={out}" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "suite", "--out", str(tmp_path)]) == 2
    assert f"`--out` must be a file that can be written, got {tmp_path}: Is a directory" in capsys.readouterr().err


# -- the schema and the reader -----------------------------------------------------------------------------------------

_SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from(
        [31, 32, 256, 257, 1000, 1001, 10_000, 10_001, 100_000, 100_001, 2**31 - 1, 2**31, 2**32 - 1, 2**32]
    )
    | st.floats(-2, 12)
    | st.sampled_from(
        ["", " ", "x", "1e-3", "none", "auto", "5 stages", "05 stages", "0 stages", "5 epochs", "acc,none"]
    )
    | st.sampled_from(["prefix", "slice", "exact", "revisit", "step", "plain", "flat", "strict", "changed_future"])
    | st.sampled_from(
        ["mean", "sum", "max", "least", "response", "both", "matched", "fixed", "linear", "join", "-length"]
    )
    | st.sampled_from(
        ["natural", "cells", "seen_loss", "sampling", "weights", "top", "infobatch", "spacing", "first", "focal", "-"]
    )
    | st.sampled_from(["note", "tokens", "competence", "odm", "lagging", "reveiw"])
)
VALUES = (
    _SIMPLE
    | st.lists(_SIMPLE, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "path", "start", "power", "metrics", "tset", "fewshot", "temperature", "how", "from", "limit"]
        ),
        _SIMPLE,
        max_size=2,
    )
)
FIELDS = [(kind, name) for kind in BLOCKS for name in kind.known()]
PARTS: list[tuple[Callable[..., Any], str]] = [
    (registry.get(name), option)
    for registry in (METRICS, PACINGS, SELECTORS, WEIGHTS, SHARES, RULES)
    for name in registry.names()
    for option in registry.options(name)
]


def test_every_setting_and_every_option_of_a_part_says_what_it_is_for() -> None:
    assert [(kind.__name__, name) for kind, name in [*FIELDS, *PARTS] if not docs(kind).get(name)] == []


@examples(500)
@given(st.sampled_from([*FIELDS, *PARTS]), VALUES)
@example((PACINGS.get("join"), "pieces"), [None])
def test_a_value_is_valid_exactly_where_its_setting_takes_it(field: tuple[Callable[..., Any], str], value: Any) -> None:
    kind, name = field
    one = leaves(kind)[name]
    if isinstance(one.of if isinstance(one, Worded) else one, Listed):  # its items are read one by one when it is made
        assert one.takes(value) or not valid(value, one.schema(), DEFS)
    else:
        assert valid(value, one.schema(), DEFS) == one.takes(value)


@examples(150)
@given(st.sampled_from([*CampusConfig.known(), "stges"]), VALUES)
def test_a_block_is_valid_exactly_where_it_is_read(name: str, value: Any) -> None:
    block = {"metrics": ["length"], name: value}
    try:
        CampusConfig.from_mapping(block)
        taken = True
    except RecipeError as error:
        # what goes together is the reader's business alone
        together = ("`metrics` must have different labels", "`metrics` must name at least one")
        taken = all(one.startswith(together) for one in error.problems)
    assert valid(block, CampusConfig.schema(), DEFS) == taken


@examples(150)
@given(
    st.sampled_from([(registry, name) for registry in (METRICS, PACINGS, WEIGHTS) for name in registry.names()]),
    st.data(),
)
def test_a_part_is_valid_only_where_it_can_be_built(part: tuple[Any, str], data: st.DataObject) -> None:
    registry, name = part
    options = registry.options(name)
    drawn = data.draw(st.dictionaries(st.sampled_from([*options, "other"]), VALUES, max_size=2))
    try:
        registry.build(name, drawn)
        built = True
    except RecipeError:
        built = False
    # what a part asks for beyond each option's type it says itself
    assert valid({"name": name, **drawn}, part_schemas()[registry.kind], DEFS) or not built


def test_the_package_has_the_schema_of_our_blocks() -> None:
    """In a process of its own: other tests register parts of theirs."""
    made = subprocess.run(
        [sys.executable, "-m", "campus_tune", "schema", "blocks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    file = ROOT / "campus_tune/recipe/campus.schema.json"
    again = f"python -m campus_tune schema blocks --out {file.relative_to(ROOT)}"
    assert file.read_text("utf-8") == made.stdout, f"write it anew: {again}"


def test_the_blocks_of_both_are_the_same_and_one_lets_the_fields_of_trl_be() -> None:
    whole, blocks = training_schema(), blocks_schema()
    assert {name: whole["properties"][name] for name in blocks["properties"]} == blocks["properties"]
    assert set(blocks["properties"]) == {"campus", "compare", "search"}
    other = {"no_field_of_trl": 1}
    assert valid(other, blocks)
    assert not valid(other, whole)
    assert not valid({"campus": {"no_setting": 1}}, blocks)

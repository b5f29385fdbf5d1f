"""The recipe block: everything wrong is said at once, nothing is guessed, and what is read back is what was written."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.pacing import scope_at
from campus_tune.method.selectors import SELECTORS
from campus_tune.recipe.blocks import EvaluateSettings, ProbeSettings
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from tests.strategies import pacings


def problems(**settings: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        CampusConfig.from_mapping({"metrics": ["length"], **settings})
    return caught.value.problems


def write(folder: Path, content: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(textwrap.dedent(content), encoding="utf-8")
    return path


# -- what is wrong -------------------------------------------------------------------------------------------------


def test_a_misspelt_option_is_named_and_corrected() -> None:
    assert "".join(problems(pasing="root")) == (
        "`campus` takes metrics, pacing, selector, stages, window, coverage, mix, handover, budget, within, "
        "rescore, probes, evaluate, scores, level, batching, seed, cells, domains, phases, thin, review, drop, "
        "weights, control, milestones, when, clock, value, passes, resume, got 'pasing'. Did you mean 'pacing'? "
        "Correct or remove it."
    )


def test_all_problems_are_reported_at_once() -> None:
    found = problems(coverge="exact", stages=0, window="slices", selector="matchd", pacing="rot", metrics=["lenth"])
    assert len(found) == 6
    assert all("Did you mean" in problem for problem in found if "stages" not in problem)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": "slices"}, "`window` must be one of prefix, slice, got 'slices'. Did you mean 'slice'?"),
        ({"coverage": True}, "`coverage` must be one of exact, revisit, got True."),
        ({"stages": 0}, "`stages` must be a whole number of at least 1, got 0. Raise it."),
        ({"stages": 2.5}, "`stages` must be a whole number of at least 1, got 2.5. Write a number."),
        ({"mix": 1.0}, "`mix` must be a number in [0, 1), got 1.0. Choose a value in this range."),
        ({"handover": -0.1}, "`handover` must be a number in [0, 1], got -0.1. Choose a value in this range."),
        ({"handover": float("nan")}, "`handover` must be a number in [0, 1], got nan. Choose a value in this range."),
        ({"budget": -0.1}, "`budget` must be a number in [0, 10], got -0.1. Choose a value in this range."),
        ({"within": 3}, "`within` must be a text, got 3. Quote it: YAML reads it as something else."),
        ({"within": ""}, "`within` must be a text, got ''. Write a name."),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1. Raise it."),
        ({"pacing": 3}, "`pacing` must be a name or a mapping, got 3. Write a name, or {name: …, option: …}."),
        ({"selector": ["matched"]}, "`selector` must be a name or a mapping, got ['matched']."),
        ({"metrics": "length"}, "`metrics` must be a list, got 'length'. Write metrics: [length], also for a single"),
        ({"metrics": [None]}, "`metrics` must be a name or a mapping, got None."),
        ({"metrics": [], "handover": 1}, "`metrics` must name at least one metric where other settings say how"),
        ({"metrics": ["length", "length"]}, "`metrics` must have different labels, got 'length' 2 times."),
        (
            {"metrics": [{"name": "length", "label": "shuffle"}]},
            "`label` of a metric must be another word than that of random stages, got 'shuffle'",
        ),
        ({"selector": {"name": "fixed", "order": "lenght"}}, "must be the label of one of the metrics (length), got "),
        ({"probes": "p.jsonl"}, "`probes` must be a mapping, got 'p.jsonl'. Write probes: {path: ./probes.jsonl}."),
        ({"probes": {"domain_column": "d"}}, "`probes: path` must be a file or a list of files, got None."),
        ({"probes": {"path": []}}, "`probes: path` must be a file or a list of files, got []."),
        (
            {"evaluate": "smoke"},
            "`evaluate` must be a mapping, got 'smoke'. Write evaluate: {suite: smoke, every: 5 stages}.",
        ),
        ({"evaluate": {"evry": 5}}, "Did you mean 'every'?"),
        (
            {"evaluate": {"every": "2 epochs"}},
            "`evaluate: every` must be a number of stages, got '2 epochs'. Write 5 stages.",
        ),
        ({"evaluate": {"every": 0}}, "`evaluate: every` must be a number of stages, got 0."),
        ({"evaluate": {"suite": 7}}, "`evaluate: suite` must be"),
        ({"evaluate": {"data": 7}}, "`evaluate: data` must be"),
        ({"evaluate": {"limit": 0}}, "`evaluate: limit` must be a whole number of at least 1, got 0."),
        (
            {"evaluate": {"tasks": "mmlu"}},
            "`evaluate: tasks` must be a list of names, got 'mmlu'. Write [mmlu, gsm8k].",
        ),
        (
            {"evaluate": {"allow_code_execution": "yes"}},
            "`evaluate: allow_code_execution` must be true or false, got 'yes'.",
        ),
        ({"probes": {"path": "p", "colum": 1}}, "`probes` takes path, domain_column, max_rows, got 'colum'."),
        ({"probes": {"path": "p", "max_rows": 0}}, "`probes: max_rows` must be a whole number of at least 1, got 0."),
    ],
)
def test_a_wrong_value_is_answered_with_what_to_type(settings: dict[str, Any], message: str) -> None:
    [problem] = problems(**settings)
    assert message in problem


@pytest.mark.parametrize("setting", ["mix", "handover", "budget"])
def test_a_number_that_yaml_reads_as_text_is_rewritten(setting: str) -> None:
    [problem] = problems(**{setting: "1e-1"})
    assert problem.endswith("got the text '1e-1'. YAML reads it as text: write 0.1.")


def test_numbers_in_disguise_are_found_inside_a_pacing_too() -> None:
    assert problems(pacing={"name": "root", "start": "1e-2"}) == [
        "`pacing: start` must be a number, got the text '1e-2'. YAML reads it as text: write 0.01."
    ]
    nested = {"name": "join", "pieces": [{"name": "root", "until": "5e-1"}]}
    assert "`pacing: pieces[0]: until` must be a number, got the text '5e-1'" in problems(pacing=nested)[0]


@pytest.mark.parametrize("setting", ["stages", "mix", "seed"])
def test_a_boolean_is_not_a_number(setting: str) -> None:
    [problem] = problems(**{setting: True})
    assert "got true, which is not a number. (YAML reads yes, no, on and off as this.)" in problem


def test_a_block_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`campus` must be a mapping of settings, got \['length'\]"):
        CampusConfig.from_mapping(["length"])


def test_no_metrics_are_fine_for_plain_shuffling() -> None:
    assert CampusConfig(selector="shuffle").labels == ()


# -- reading files -------------------------------------------------------------------------------------------------


def test_a_training_yaml_and_a_bare_block_and_a_mapping_give_the_same_settings(tmp_path: Path) -> None:
    whole = load_recipe(write(tmp_path, "learning_rate: 1.0e-4\nseed: 3\ncampus:\n  metrics: [length]\n  stages: 7\n"))
    bare = load_recipe(str(write(tmp_path, "metrics: [length]\nstages: 7\n")))
    assert whole == bare == load_recipe({"metrics": ["length"], "stages": 7}) == load_recipe(whole)


def test_a_training_yaml_without_the_block_asks_for_it(tmp_path: Path) -> None:
    path = write(tmp_path, "learning_rate: 1.0e-4\nseed: 3\ncampuss:\n  metrics: [length]\n")
    with pytest.raises(RecipeError, match=r"must be a block in .*recipe.yaml, got none\. Did you mean 'campuss'\?"):
        load_recipe(path)


DEFAULT: dict[str, Any] = {
    "selector": "shuffle",
    "weights": [{"name": "robust", "act": "auto"}],
    "drop": [{"by": "suspects", "at_most": 0.3, "act": "auto"}],
}


@pytest.mark.parametrize("text", ["campus:\n", "campus: {}\n", "campus: {metrics: []}\n", "campus: {mix: null}\n"])
def test_an_empty_block_is_the_default_and_says_so_wherever_it_is_written(tmp_path: Path, text: str) -> None:
    config = load_recipe(write(tmp_path, text))
    assert config == CampusConfig() == CampusConfig.from_mapping(DEFAULT) == load_recipe({})
    assert load_recipe(yaml.safe_load(config.to_yaml())) == config
    assert config.is_shuffle
    assert config.only_waits
    [entry], [weight] = config.drop or (), config.weights or ()
    assert (entry.by, entry.acts, weight.weight.when) == ("suspects", "auto", "auto")


@pytest.mark.parametrize(
    "block",
    [{"stages": 5}, {"budget": 0}, {"seed": 3}, {"probes": {"path": "p"}}, {"within": "source"}, {"batching": "plain"},
     {"control": "random_drop"}, {"cells": {"bands": 3}}, {"handover": 0.6}, {"window": "prefix"},
     {"pacing": CampusConfig().pacing}],
)  # fmt: skip
def test_a_block_that_says_nothing_of_orders_is_the_default_with_what_it_says(block: dict[str, Any]) -> None:
    assert CampusConfig.from_mapping(block) == CampusConfig.from_mapping({**block, **DEFAULT})


@pytest.mark.parametrize(
    "block",
    [{"drop": [{"by": "duplicates"}]}, {"weights": ["focal"]}, {"domains": {"shares": {"a": 1}}}, {"review": {}},
     {"phases": [{"until": 1}]}, {"thin": {"how": "top", "by": "length", "keep": 0.5}}],
)  # fmt: skip
def test_a_block_that_says_who_is_drawn_is_shuffled_and_nothing_acts_that_it_does_not_name(block: Any) -> None:
    config = CampusConfig.from_mapping(block)
    assert config == CampusConfig.from_mapping({**block, "selector": "shuffle"})
    assert not config.only_waits


@pytest.mark.parametrize(
    "block",
    [{"metrics": ["length"]}, {"selector": "shuffle"}, {"metrics": ["length"], "selector": "shuffle"},
     {"metrics": ["length", "mtld"], "window": "slice", "stages": 5}],
)  # fmt: skip
def test_a_block_that_names_an_order_or_a_selector_is_what_it_was(block: dict[str, Any]) -> None:
    config = CampusConfig.from_mapping(block)
    assert (config.drop, config.selector) == (None, block.get("selector"))


@pytest.mark.parametrize(
    "setting",
    [{"pacing": "linear"}, {"window": "slice"}, {"coverage": "revisit"}, {"mix": 0.2}, {"handover": 1}, {"rescore": 0}],
)
def test_who_says_how_orders_are_trained_and_names_none_is_told(setting: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"must name at least one metric where other settings .* metrics: \[length\]"):
        CampusConfig(**setting)
    CampusConfig(**setting, metrics=["length"])
    CampusConfig(**setting, selector="shuffle")


@pytest.mark.parametrize("odd", [3, None, "", float("nan"), {}, np.zeros(3), np.array(["length"])])
def test_whatever_metrics_are_given_as_is_refused_as_it_was(odd: Any) -> None:
    with pytest.raises(RecipeError, match="`metrics` must be a list"):
        CampusConfig(metrics=odd)


def test_what_only_waits_is_what_names_nothing_but_acts_that_wait() -> None:
    waits = {"selector": "shuffle", "weights": [{"name": "robust", "act": "auto"}]}
    assert CampusConfig(**waits).only_waits
    resolved = CampusConfig(**waits).resolved(has_probes=False, domain_in_data=True, seed=1)
    assert resolved.cells is not None
    assert resolved.only_waits
    others = ({"weights": ["robust"]}, {"drop": [{"by": "suspects"}]}, {"review": {}}, {"weights": None})
    for more in (*others, {"cells": {"bands": 2}}):
        assert not CampusConfig(**{**waits, **more}).only_waits


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe.yaml` line 3 must be YAML, got: .*Check indentation"):
        load_recipe(write(tmp_path, "campus:\n  metrics: [length\n  stages: 7\n"))


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="line 3 must be YAML, got: the key 'stages' twice"):
        load_recipe(write(tmp_path, "metrics: [length]\nstages: 3\nstages: 4\n"))


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "metrics: [length]")
    with pytest.raises(
        RecipeError, match=r"must be a readable YAML file, got No such file.* Did you mean 'recipe.yaml'\?"
    ):
        load_recipe(tmp_path / "recipes.yaml")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes("metrics: [length] # é".encode("latin-1"))
    with pytest.raises(RecipeError, match="must be UTF-8, got byte 0xe9 at offset 20"):
        load_recipe(path)


def test_a_yaml_that_is_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must be a mapping, got list"):
        load_recipe(write(tmp_path, "- length\n"))


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="got the tag !!python/object/apply:o"):
        load_recipe(write(tmp_path, "metrics: !!python/object/apply:os.getcwd []\n"))


# -- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "has_probes", "selector"),
    [
        (["length"], True, "fixed"),
        (["length"], False, "fixed"),
        (["length", "mtld"], True, "matched"),
        (["length", "mtld"], False, "relative_perplexity"),
    ],
)
def test_a_null_selector_becomes_what_the_data_allow(metrics: list[str], has_probes: bool, selector: str) -> None:
    resolved = CampusConfig(metrics=metrics).resolved(has_probes=has_probes, domain_in_data=False, seed=0)
    assert resolved.selector_name == selector


def test_matched_without_probes_names_the_ways_out() -> None:
    config = CampusConfig(metrics=["length", "mtld"], selector="matched")
    with pytest.raises(
        RecipeError, match=r"must have probes to be 'matched', got none. Give probes: .*relative_perplex"
    ):
        config.resolved(has_probes=False, domain_in_data=False, seed=0)


def test_a_null_group_column_becomes_the_probes_own_where_the_data_have_it() -> None:
    config = CampusConfig(metrics=["length"], probes={"path": "p", "domain_column": "topic"})
    assert config.resolved(has_probes=True, domain_in_data=True, seed=0).within == "topic"
    assert config.resolved(has_probes=True, domain_in_data=False, seed=0).within == "none"
    plain = CampusConfig(metrics=["length"])
    assert plain.resolved(has_probes=False, domain_in_data=True, seed=0).within == "domain"


@pytest.mark.parametrize(
    ("settings", "mix"),
    [
        ({"metrics": ["length"]}, 0.5),
        ({"metrics": ["length"], "mix": 0.0}, 0.0),
        ({"metrics": ["length"], "mix": 0.2, "window": "slice"}, 0.2),
        ({"metrics": ["length"], "window": "slice"}, 0.0),  # as published
        ({"selector": "shuffle"}, 0.0),
    ],
)
def test_a_null_mix_is_a_half_of_each_stage_unless_the_window_is_as_published(settings: Json, mix: float) -> None:
    config = CampusConfig(**settings)
    resolved = config.resolved(has_probes=False, domain_in_data=False, seed=0)
    assert (resolved.mix, resolved.schedule().mix, config.share_at_random) == (mix, mix, mix)


def test_a_recipes_own_seed_and_groups_stay() -> None:
    config = CampusConfig(metrics=["length"], seed=5, within="source")
    resolved = config.resolved(has_probes=False, domain_in_data=True, seed=9)
    assert (resolved.seed, resolved.within) == (5, "source")
    assert CampusConfig(metrics=["length"]).resolved(has_probes=False, domain_in_data=False, seed=9).seed == 9


def test_an_unresolved_seed_or_selector_draws_and_builds_nothing() -> None:
    config = CampusConfig(metrics=["length"])
    with pytest.raises(RecipeError, match="`seed` must be resolved before rows are drawn"):
        config.schedule()
    with pytest.raises(RecipeError, match="`selector` must be resolved before it is built"):
        config.build_selector()


def test_the_schedule_is_the_blocks() -> None:
    settings: dict[str, Any] = {"stages": 7, "window": "slice", "coverage": "revisit", "mix": 0.25, "handover": 1}
    schedule = CampusConfig(metrics=["length"], pacing="linear", seed=3, **settings).schedule()
    assert {name: getattr(schedule, name) for name in settings} == settings
    assert (schedule.seed, scope_at(schedule.pacing, 0.5)) == (3, pytest.approx(0.505))


def test_past_and_future_are_the_identity_and_resume_is_none_of_it() -> None:
    config = CampusConfig(metrics=["length"], resume="changed_future")
    assert set(config.past()) == {"metrics", "within", "seed", "coverage", "window", "batching"}
    assert config.past() | config.future() == config.identity()
    assert config.identity() == CampusConfig(metrics=["length"]).identity()


def test_settings_do_not_change_when_the_callers_own_do() -> None:
    metrics: list[Any] = [{"name": "length", "of": "both"}]
    config = CampusConfig(metrics=metrics)
    metrics[0]["of"] = "prompt"
    metrics.append("mtld")
    assert config.to_mapping()["metrics"] == [{"name": "length", "of": "both"}]


def test_the_evaluation_that_watches_a_run_is_read_and_written_back() -> None:
    config = CampusConfig(metrics=["length"], evaluate={"every": "3 stages", "tasks": ["mmlu"], "data": "rows"})  # type: ignore[arg-type]
    assert config.evaluate == EvaluateSettings("smoke", 3, ("mmlu",), "rows")
    assert CampusConfig.from_mapping(config.to_mapping()) == config
    assert CampusConfig(metrics=["length"], evaluate={}).evaluate == EvaluateSettings()  # type: ignore[arg-type]
    assert "evaluate" not in config.identity()  # it watches: a run may be resumed with another one


def test_a_probes_mapping_is_read_into_settings() -> None:
    config = CampusConfig.from_mapping({"metrics": ["length"], "probes": {"path": "a.jsonl", "max_rows": 50}})
    assert config.probes == ProbeSettings(path=("a.jsonl",), domain_column="domain", max_rows=50)


ALONE = [name for name in SELECTORS.names() if name != "replayed"]  # which says nothing without its choices


@given(
    pacing=pacings(),
    selector=st.sampled_from(
        [None, *ALONE, {"name": "fixed", "order": "long"}, {"name": "replayed", "choices": ["long"]}]
    ),
    metrics=st.sampled_from([[{"name": "length", "label": "long"}], [{"name": "length", "label": "long"}, "-mtld"]]),
    stages=st.integers(1, 99),
    mix=st.floats(0, 1, exclude_max=True),
    handover=st.floats(0, 1),
    within=st.none() | st.just("none") | st.text("abc", min_size=1),
    probes=st.none() | st.just({"path": ["a", "b"], "domain_column": "d", "max_rows": None}),
)
def test_any_settings_survive_yaml(tmp_path_factory: pytest.TempPathFactory, **settings: Any) -> None:
    config = CampusConfig.from_mapping(settings)
    path = write(tmp_path_factory.mktemp("yaml"), config.to_yaml())
    assert load_recipe(path) == config
    assert CampusConfig.from_mapping(config.to_mapping()) == config


def test_choices_that_are_replayed_are_labels() -> None:
    message = (
        r"`selector: choices` must be the label of one of the metrics \(length, mtld\), got 'mtdl'. Did you mean 'mtld'"
    )
    wrong = {"name": "replayed", "choices": ["length", "mtdl", "shuffle"]}
    with pytest.raises(RecipeError, match=message):
        CampusConfig(metrics=["length", "mtld"], selector=wrong)
    CampusConfig(metrics=["length", "mtld"], selector={**wrong, "choices": ["length", "mtld", "shuffle"]})

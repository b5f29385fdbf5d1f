"""The blocks that say who is drawn: a refusal names what was given and what to write; what is written is read."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.thin import THINNERS
from campus_tune.recipe.config import DRAWN, CampusConfig, load_recipe
from campus_tune.recipe.draw_blocks import (
    BOOK,
    CellSettings,
    DomainSettings,
    PhaseSettings,
    ReviewSettings,
    ThinSettings,
)
from campus_tune.recipe.draw_rules import DrawBlocks, find_score
from campus_tune.recipe.drop_block import DropSettings
from campus_tune.recipe.plugins import plugins_used
from campus_tune.recipe.reader import CheckedSettings, rows, settings_help
from campus_tune.words.errors import RecipeError
from campus_tune.words.strict_yaml import read_value
from campus_tune.words.types import Json

BLOCKS: list[type[CheckedSettings]] = [CellSettings, DomainSettings, PhaseSettings, ThinSettings, DropSettings]


def config(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": ["length", {"name": "mtld", "label": "words"}], **settings})


def problems(**settings: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        config(**settings)
    return caught.value.problems


# -- what is refused ---------------------------------------------------------------------------------------------------

HALVES = [{"until": 0.5}, {"until": 1}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # cells
        ({"cells": {"bands": 0}}, "`cells: bands` must be a whole number of at least 1, got 0. Raise it."),
        ({"cells": {"by": ["length"]}}, "`cells: by` must be a metric, got ['length']. Write length, -length or {"),
        ({"cells": {"by": "lenth"}, "thin": {"how": "top"}}, "`cells: by` must be one of length, words, "),
        ({"cells": {"by": "lenth"}, "thin": {"how": "top"}}, "got 'lenth'. Did you mean 'length'? Name one of them."),
        (
            {"cells": {"band": 3}},
            "`cells` takes by, bands, of, got 'band'. Did you mean 'bands'? Correct or remove it.",
        ),
        ({"cells": "length"}, "`cells` must be a mapping, got 'length'. Write cells: {by: length, bands: 5}."),
        # domains
        (
            {"domains": {"by": "sampler"}},
            "`domains: by` must be one of sampling, weights, got 'sampler'. Did you mean 'sampling'",
        ),
        (
            {"domains": {"shares": {"a": 0.5, "b": 0.4}}},
            "`domains: shares` must sum to 1, got 0.9. Write {a: 0.5556, b: ",
        ),
        ({"domains": {"shares": {"a": 0, "b": 0}}}, "must sum to 1, got 0. Give at least one of them more than 0."),
        ({"domains": {"shares": {"a": 1.5, "b": -0.5}}}, "`domains: shares: a` must be a number in [0, 1], got 1.5."),
        ({"domains": {"shares": {"a": "1e-1", "b": 0.9}}}, "got the text '1e-1'. YAML reads it as text: write 0.1."),
        (
            {"domains": {"shares": {"temperature": 0}}},
            "`domains: shares: temperature` must be a number in (0, 1000], got",
        ),
        (
            {"domains": {"shares": "equal"}},
            "`domains: shares` must be natural, a mapping of names to shares, or {temper",
        ),
        ({"domains": {"shares": {}}}, "got {}. Write {math: 0.4, code: 0.6}."),
        (
            {"domains": {"shares": {1: 0.5, 2: 0.5}}},
            "`domains: shares` must name each of them by a text, got 1. Quote it: {'1': …}.",
        ),
        ({"thin": {"how": []}}, "`thin: how` must be one of proportional, prune, rank, top, got []. Write how: rank."),
        ({"thin": {"how": {"a": 1}}}, "got {'a': 1}. Write how: rank."),
        (
            {"thin": {"how": "rank", "by": {"name": "lenth"}}},
            "`thin: by`: `metric` must be one of",
        ),
        (
            {"domains": {"over": "cell"}},
            "`domains: over` must be one of domains, cells, got 'cell'. Did you mean 'cells'?",
        ),
        ({"domains": {"follow": "loss"}}, "`domains: follow` must be one of seen_loss, progress, got 'loss'."),
        (
            {"domains": {"follow": "progress", "shares": {"temperature": 2}}},
            "must start from natural shares, of which 20 % stay, got shares: {'temperature': 2}. Leave out `shares` or",
        ),
        (
            {"domains": {"follow": "progress", "least": 0.1}},
            "20 % stay, got least: 0.1. Leave out `least` or `follow`.",
        ),
        ({"domains": {"follow": "progress"}, "phases": [{"until": 1, "shares": {"a": 1}}]}, "must be alone to decide"),
        # phases
        (
            {"phases": []},
            "`phases` must be a list of one or more, got []. Write phases: [{until: 0.5}, {until: 1}], or",
        ),
        ({"phases": {"until": 1}}, "`phases` must be a list of one or more, got {'until': 1}. Write phases: ["),
        ({"phases": [{"until": 1}, {"until": 0.5}]}, "`phases: until` must rise and end with 1, got 1, 0.5. Sort them"),
        (
            {"phases": [{"until": 0.5}, {"until": 0.9}]},
            "must rise and end with 1, got 0.5, 0.9. Sort them, and write unt",
        ),
        ({"phases": [{"until": 0.5}, {"until": 0.5}, {"until": 1}]}, "must rise and end with 1, got 0.5, 0.5, 1."),
        ({"phases": [{"shares": "natural"}]}, "`phases: until` must be a number in (0, 1], got None. Write a number."),
        ({"phases": [*HALVES[:1], {"until": 2}]}, "entry 2: `phases: until` must be a number in (0, 1], got 2."),
        (
            {"phases": [{"until": 1, "overlap": 0.1}]},
            "`phases: overlap` of the last phase must be 0, got 0.1: none foll",
        ),
        (
            {"phases": [{"until": 0.1, "overlap": 0.4}, {"until": 1}]},
            "`phases: overlap` must leave something of each phase, got 0.1 too much for phase 1. Lower it there or bef",
        ),
        (
            {"phases": [{"until": 0.4, "overlap": 0.3}, {"until": 0.6, "overlap": 0.3}, {"until": 1}]},
            "got 0.1 too much for phase 2.",
        ),
        (
            {"phases": [{"until": 1, "offer": ["wrds"]}]},
            "`phases: offer` must be labels of `metrics` (length, words), got",
        ),
        ({"phases": [{"until": 1, "offer": ["wrds"]}]}, "got 'wrds'. Did you mean 'words'? Name one of them."),
        (
            {"phases": [{"until": 1, "offer": "words"}]},
            "`phases: offer` must be a list of labels, got 'words'. Write [l",
        ),
        ({"phases": [{"until": 1, "top": {"wods": 0.3}}]}, "`phases: top` must be one of length, words, column, "),
        (
            {"phases": [{"until": 1, "top": 0.3}]},
            "`phases: top` must be a mapping of one metric to the share of its bes",
        ),
        (
            {"phases": [{"until": 1, "top": {"words": 1.0}}]},
            "`phases: top: words` must be a number in (0, 1), got 1.0.",
        ),
        ({"phases": [{"until": 1, "mix": 1}]}, "`phases: mix` must be a number in [0, 1), got 1."),
        # thin
        (
            {"thin": {"by": "length"}},
            "`thin: how` must be one of proportional, prune, rank, top, got None. Write how: ra",
        ),
        (
            {"thin": {"how": "prunes"}},
            "`thin: how` must be one of proportional, prune, rank, top, got 'prunes'. Did you",
        ),
        (
            {"thin": {"how": "infobatch"}},
            "got 'infobatch': that is prune whose rows are weighed. Write thin: {how: prune} and weights: [unbiased].",
        ),
        (
            {"thin": {"how": "importance"}},
            "got 'importance': that is proportional whose rows are weighed. Write thin: {how: proportional} and weigh",
        ),
        (
            {"thin": "unbiased"},
            "`thin` must say which rows are trained, got unbiased, which says how much they count. Write it beside: ",
        ),
        ({"thin": {"how": "top", "unbiased": True}}, "`thin` must say which rows are trained, got unbiased, which"),
        (
            {"thin": [{"how": "top"}, {"how": "rank"}]},
            "`thin` must be one mapping, got a list of 2: two thinners would ",
        ),
        (
            {"thin": {"how": "top", "by": "seen_los"}},
            "`thin: by` must be one of seen_loss, surprise, excess, middle, ea",
        ),
        ({"thin": {"how": "top", "by": "seen_los"}}, "got 'seen_los'. Did you mean 'seen_loss'? Name one of them."),
        (
            {"thin": {"how": "top", "by": "quality"}},
            "`thin: by`: `metric: quality`: `model` must be a model folder or a",
        ),
        ({"thin": {"how": "top", "by": {"name": "lenght"}}}, "`metric` must be one of "),
        (
            {"thin": {"how": "top", "by": {"name": "length", "of": "both"}}},
            "`thin: by` must mean one metric, got 'length'",
        ),
        (
            {"thin": {"how": "prune", "keep": 0.5}},
            "`thin: keep` must be left out with how: prune, which takes drop, got",
        ),
        (
            {"thin": {"how": "rank", "drop": 0.5}},
            "`thin: drop` must be left out with how: rank, which takes keep, power",
        ),
        (
            {"thin": {"how": "top", "power": 2}},
            "`thin: power` must be left out with how: top, which takes keep, got 2.",
        ),
        (
            {"thin": {"how": "rank", "floor": 0.1}},
            "`thin: floor` must be left out with how: rank, which takes keep, powe",
        ),
        (
            {"thin": {"how": "rank", "gate": 1.2}},
            "`thin: gate` must be left out with how: rank, got 1.2: it asks how un",
        ),
        ({"thin": {"how": "top", "keep": 1.0}}, "`thin: keep` must be a number in (0, 1), got 1.0."),
        (
            {"thin": {"how": "proportional", "by": "-length"}},
            "`thin: by` must not be turned around with how: proportional, got '-length': a chance that is proportional",
        ),
        (
            {"thin": {"how": "rank", "by": "surprise", "fresh": True}},
            "`thin: fresh` must go with by: seen_loss or a metr",
        ),
        (
            {"thin": {"how": "top", "by": "excess", "fresh": True}},
            "got excess: it is known of trained rows alone. Write f",
        ),
        (
            {"thin": {"how": "top", "from": 0.6, "until": 0.5}},
            "`thin: from` must be before its until, got from: 0.6, unti",
        ),
        (
            {"thin": {"how": "top", "since": 0.6}},
            "`thin` takes how, by, keep, drop, power, floor, gate, detrend, fresh, f",
        ),
        ({"thin": {"how": "top", "from": "on"}}, "`thin: from` must be a number in [0, 1), got 'on'. Write a number."),
        ({"thin": {"how": "top", "fresh": "on"}}, "`thin: fresh` must be true or false, got 'on'. Write one of them."),
        # review
        ({"review": {"share": 0}}, "`review: share` must be a number in (0, 1), got 0. Choose a value in this range."),
        (
            {"review": {"by": "forgeting"}},
            "`review: by` must be one of spacing, forgetting, uniform, got 'forgeting'. Did",
        ),
        (
            {"review": {"spacing": 129}},
            "`review: spacing` must be a whole number of at least 1 and at most 128, got 129.",
        ),
        (
            {"review": {"from": 0.9, "until": 0.9}},
            "`review: from` must be before its until, got from: 0.9, until: 0.9.",
        ),
        ({"review": 0.1}, "`review` must be a mapping, got 0.1. Write review: {share: 0.1, by: spacing}."),
        ({"review": "off"}, "`review` must be a mapping, got 'off'."),
        # drop
        (
            {"drop": {"by": "duplicates"}},
            "`drop` must be a list of one or more, got {'by': 'duplicates'}. Write drop: [",
        ),
        ({"drop": []}, "or null for none."),
        (
            {"drop": [{"lowest": 0.1}]},
            "`drop: by` must be duplicates, judged, suspects, value, a metric, got None. Write length, -length",
        ),
        (
            {"drop": [{"by": "words"}]},
            "`drop` by a metric must have lowest or below, got neither. Write lowest: 0.05, or",
        ),
        ({"drop": [{"by": "words", "lowest": 0.1, "below": 0}]}, "must have lowest or below, got both."),
        (
            {"drop": [{"by": "duplicates", "lowest": 0.1}]},
            "`drop: lowest` must be left out with by: duplicates, got 0.1.",
        ),
        (
            {"drop": [{"by": "words", "lowest": 0.1, "keep": "first"}]},
            "`drop: keep` must be left out with by: a metric",
        ),
        (
            {"drop": [{"by": "judged"}]},
            "`drop: path` must be the file of judged rows, got nothing. Write path: judged.",
        ),
        ({"drop": [{"by": "duplicate"}]}, "`drop` by a metric must have lowest or below"),
        (
            {"drop": [{"by": "duplicate", "lowest": 0.1}]},
            "got 'duplicate'. Did you mean 'duplicates'? Name one of them.",
        ),
        ({"drop": [{"by": "duplicates", "keep": "last"}]}, "`drop: keep` must be one of first, got 'last'."),
        ({"drop": [{"by": "duplicates"}, {"by": "judged"}]}, "entry 2: `drop: path` must be the file of judged rows"),
        (
            {"drop": [{"by": "suspects", "lowest": 0.1}]},
            "`drop: lowest` must be left out with by: suspects, got 0.1. Remove it.",
        ),
        (
            {"drop": [{"by": "duplicates", "from": 0.5}]},
            "`drop: from` must be left out with by: duplicates, got 0.5. Remove it.",
        ),
        ({"drop": [{"by": "suspects", "from": 1}]}, "`drop: from` must be a number in [0, 1), got 1."),
        ({"drop": [{"by": "suspects", "at_most": 0}]}, "`drop: at_most` must be a number in (0, 1), got 0."),
        (
            {"drop": [{"by": "suspects", "act": True}]},
            "`drop: act` must be one of auto, always, never, got True.",
        ),
        (
            {"drop": [{"by": "suspects", "act": "allways"}]},
            "got 'allways'. Did you mean 'always'?",
        ),
        (
            {"drop": [{"by": "suspects"}, {"by": "suspects", "at_most": 0.1}]},
            "`drop` must have one entry for suspects, got 2: they are dropped once. Keep one of them.",
        ),
        (
            {"drop": [{"by": "value"}]},
            "`drop: path` must be the values that an earlier run has left, got nothing. Write path: RUN/",
        ),
        (
            {"drop": [{"by": "value", "path": "v.parquet", "below": 0.1}]},
            "`drop: below` must be at most 0 with by: value, got 0.1: rows above 0 helped. Write below: 0, or",
        ),
        (
            {"drop": [{"by": "value", "path": "v.parquet", "lowest": 0.1}]},
            "`drop: lowest` must be left out with by: value, got 0.1. Remove it.",
        ),
        (
            {"drop": [{"by": "judged", "path": "j.jsonl", "probe": "math"}]},
            "`drop: probe` must be left out with by: judged, got 'math'. Remove it.",
        ),
        ({"drop": [{"by": "suspect", "lowest": 0.1}]}, "got 'suspect'. Did you mean 'suspects'? Name one of them."),
        # control
        (
            {"control": "shuffled"},
            "must be one of shuffled_scores, random_drop, drop_best, shuffled_weights, got 'shuffled'.",
        ),
        (
            {"control": "shuffled_scores"},
            "`control` must be of a block that the recipe has, got shuffled_scores without ",
        ),
        (
            {"control": "random_drop", "thin": {"how": "top"}},
            "got random_drop without `drop`. Add `drop`, or remove it.",
        ),
        (
            {"control": "drop_best", "drop": [{"by": "duplicates"}]},
            "got drop_best without `drop: [{by: value}]`. Add `drop: [{by: value}]`, or remove it.",
        ),
    ],
)
def test_a_wrong_block_is_answered_with_what_to_write(settings: Json, message: str) -> None:
    assert message in "\n".join(problems(**settings))


def test_everything_wrong_in_all_blocks_is_told_at_once() -> None:
    found = problems(
        cells={"bands": 0},
        domains={"by": "weight"},
        phases=[{"until": 1}, {"until": 0.5}],
        thin={"how": "infobatch", "since": 0.5},
        review="off",
        drop=[{"by": "judged"}],
        weights=["focal", {"name": "robust", "limit": 0}],
        control="none",
        stages=0,
    )
    assert len(found) == 10
    assert len(set(found)) == 10


def test_a_control_of_a_block_that_is_wrong_is_not_held_against_it() -> None:
    assert len(problems(thin={"how": "topp"}, control="shuffled_scores")) == 1


@pytest.mark.parametrize(
    "shares", [{"a": 0.5, "b": 0.4}, {"a": 1, "b": 1, "c": 1}, {"a": 0.333, "b": 0.333, "c": 0.333}]
)
def test_the_shares_that_a_refusal_writes_are_taken(shares: Json) -> None:
    (problem,) = problems(domains={"shares": shares})
    written = re.search(r"Write (\{.*\})\.", problem)
    assert written
    instead = read_value(written[1], "domains")
    taken = config(domains={"shares": instead}).domains
    assert taken is not None
    assert set(taken.shares) == set(shares)


def test_the_words_that_yaml_makes_truths_of_elsewhere_are_never_taken() -> None:
    for name in DRAWN:
        for word in ("on", "off", "yes", "no", True, False):
            assert problems(**{name: read_value(str(word).lower(), name)})


# -- what is read ------------------------------------------------------------------------------------------------------


def test_from_is_the_word_that_is_written_and_since_the_one_in_python() -> None:
    block = ThinSettings.from_mapping({"how": "rank", "from": 0.25})
    assert block.since == 0.25
    assert block.to_mapping()["from"] == 0.25
    assert "since" not in block.to_mapping()
    assert config(thin={"how": "rank", "from": 0.25}).to_mapping()["thin"] == block.to_mapping()
    assert "from: 0.25" in config(thin=block).to_yaml()
    assert {"from", "until"} <= set(ThinSettings.schema()["properties"])
    assert "since" not in str(CampusConfig.schema())
    assert [row.name for row in rows(ReviewSettings)] == ["share", "by", "spacing", "from", "until"]
    assert "  --thin.from\n      progress from which it holds (a number in [0, 1); default 0.0)" in settings_help(
        ThinSettings, "--thin."
    )


def test_settings_that_are_not_used_are_not_written() -> None:
    plain = CampusConfig(metrics=["length"])
    assert not set(DRAWN) & plain.to_mapping().keys()
    assert not set(DRAWN) & plain.identity().keys()
    assert not plain.draws_apart
    assert plain.scored == plain.specs
    used = config(cells={}, review={})
    assert "cells" in used.past()
    assert "review" in used.future()
    assert set(DRAWN) & used.to_mapping().keys() == {"cells", "review"}


@pytest.mark.parametrize(
    ("settings", "apart"),
    [
        ({}, False),
        ({"cells": {}}, False),
        ({"domains": {}}, False),
        ({"domains": {"shares": "natural"}}, False),
        ({"domains": {"least": 0.1}}, True),
        ({"domains": {"over": "cells"}}, True),
        ({"domains": {"follow": "progress"}}, True),
        ({"domains": {"shares": {"temperature": 2}}}, True),
        ({"phases": [{"until": 1}]}, True),
        ({"thin": {"how": "top"}}, True),
        ({"review": {}}, True),
        ({"drop": [{"by": "duplicates"}]}, True),
    ],
)
def test_what_draws_otherwise_than_in_proportion(settings: Json, apart: bool) -> None:
    assert config(**settings).draws_apart is apart


def test_a_score_of_a_block_is_a_label_of_the_recipe_or_a_metric_of_its_own() -> None:
    used = config(
        cells={"by": "-length"},
        thin={"how": "rank", "by": {"name": "compression", "label": "gzip"}},
        drop=[{"by": "words", "lowest": 0.1}, {"by": "random", "below": 0}, {"by": "duplicates"}],
        phases=[{"until": 1, "top": {"readability": 0.3}}],
    )
    assert [spec.label for spec in used.specs] == ["length", "words"]
    assert [spec.label for spec in used.scored] == ["length", "words", "gzip", "readability", "random"]
    assert used.labels == ("length", "words")  # the draw's own metrics are no orders
    assert find_score("-words", used.specs).turned
    assert not find_score("-random", used.specs).turned  # it is a metric of its own, turned by its own minus
    assert config(thin={"how": "rank"}).scored == used.specs  # cells by length, which is there already
    assert [spec.label for spec in CampusConfig(selector="shuffle", thin={"how": "rank"}).scored] == ["length"]  # type: ignore[arg-type]


def test_a_metric_that_training_shows_too_must_be_called_otherwise() -> None:
    entry = {"name": "length", "label": "excess"}
    found = problems(metrics=[entry], thin={"how": "top", "by": "excess"})
    (problem,) = found
    assert "must mean one score, got 'excess', which training shows and which is a label of `metrics` too." in problem
    assert "Give the metric another `label`." in problem
    assert CampusConfig.from_mapping({"metrics": [{**entry, "label": "more"}], "thin": {"how": "top", "by": "excess"}})


def test_two_scorers_are_too_many_also_where_one_is_the_draws() -> None:
    found = problems(metrics=["length", "scorer"], drop=[{"by": {"name": "scorer", "label": "s"}, "lowest": 0.1}])
    assert found == ["`metrics` must have one scorer at most, got several. Keep one of them."]


def test_cells_that_are_used_are_written_down_when_nulls_are_filled_in() -> None:
    known: Json = {"has_probes": False, "domain_in_data": False, "seed": 1}
    assert config(thin={"how": "rank"}).resolved(**known).cells == CellSettings()
    assert config(review={}).resolved(**known).cells is None
    assert config(cells={"bands": 3}, thin={"how": "top"}).resolved(**known).cells == CellSettings(bands=3)


def test_the_domains_are_those_that_rows_are_ranked_in_else_those_of_the_probes() -> None:
    assert config(within="source").domain_column == "source"
    assert config(within="none").domain_column == "domain"
    assert config(probes={"path": "p.jsonl", "domain_column": "task"}).domain_column == "task"


def test_a_thinner_and_the_draws_own_metrics_are_asked_for_their_packages() -> None:
    assert plugins_used(config(thin={"how": "rank", "by": "compression"}, drop=[{"by": "-mtld", "lowest": 0.1}])) == {}


# -- how long the run is -----------------------------------------------------------------------------------------------

LONG: Json = {"total_steps": 20, "steps_per_epoch": 10, "n_stages": 8, "revisits": False}


@pytest.mark.parametrize(
    ("settings", "length", "message"),
    [
        (
            {"thin": {"how": "top"}},
            {"total_steps": 10},
            "`thin: by` must be known before a row comes again, got seen_lo",
        ),
        (
            {"thin": {"how": "top"}},
            {"total_steps": 10},
            "for 1 passes over the rows: no row was seen before, there is no",
        ),
        ({"thin": {"how": "top", "until": 0.4}}, {}, "got seen_loss for 0.8 passes over the rows"),
        (
            {"review": {}},
            {"n_stages": 1},
            "`review` must have rows to come back to, got a run of one stage, before whic",
        ),
    ],
)
def test_a_run_that_is_too_short_is_refused_with_words(settings: Json, length: Json, message: str) -> None:
    (problem,) = config(**settings).draw.passes_problems(**{**LONG, **length})
    assert message in problem


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"thin": {"how": "top"}}, {}),  # num_train_epochs: 2, as the refusal says
        ({"thin": {"how": "top", "by": "length"}}, {"total_steps": 10}),  # or a metric
        ({"thin": {"how": "top", "fresh": True}}, {"total_steps": 10}),
        ({"thin": {"how": "top"}}, {"total_steps": 10, "revisits": True}),
        ({"thin": {"how": "top"}, "domains": {"shares": {"temperature": 3}}}, {"total_steps": 10}),
        ({"review": {}}, {}),
        ({}, {"n_stages": 1, "total_steps": 1}),
    ],
)
def test_a_run_that_is_long_enough_is_not(settings: Json, length: Json) -> None:
    assert config(**settings).draw.passes_problems(**{**LONG, **length}) == []


# -- any of them -------------------------------------------------------------------------------------------------------

_part = st.floats(0.01, 0.99)
_shares = (
    st.just("natural")
    | st.floats(0.1, 100).map(lambda t: {"temperature": t})
    | st.floats(0, 1).map(lambda x: {"math": x, "code": 1 - x})
)
_span = st.tuples(st.floats(0, 0.49), st.floats(0.5, 1)).map(lambda ends: {"from": ends[0], "until": ends[1]})
_metrics = st.sampled_from(["length", "-words", "mtld", {"name": "compression", "label": "gzip"}])


@st.composite
def _thins(draw: st.DrawFn) -> Json:
    how = draw(st.sampled_from(THINNERS.names()))
    by = draw(st.sampled_from([*BOOK, "length", "words"]))
    fresh = draw(st.booleans()) and by not in ("surprise", "excess")
    knob = "drop" if how == "prune" else "keep"
    return {"how": how, "by": by, knob: draw(_part), "fresh": fresh, **draw(_span)}


_phases = st.lists(st.floats(0.01, 0.99), max_size=3, unique=True).flatmap(
    lambda ends: st.tuples(
        *(
            st.fixed_dictionaries(
                {"until": st.just(end)},
                optional={"shares": _shares, "mix": _part, "offer": st.just(["words"]), "top": st.just({"words": 0.5})},
            )
            for end in [*sorted(ends), 1]
        )
    ).map(list)
)
_drops = st.lists(
    st.builds(lambda by, x: {"by": by, "lowest": x}, _metrics, _part)
    | st.builds(lambda by, x, most: {"by": by, "below": x, "at_most": most}, _metrics, st.floats(-9, 9), _part)
    | st.sampled_from(
        [{"by": "duplicates"}, {"by": "duplicates", "keep": "first"}, {"by": "judged", "path": "j.jsonl"}]
    ),
    min_size=1,
    max_size=3,
)
_blocks = st.fixed_dictionaries(
    {},
    optional={
        "cells": st.fixed_dictionaries(
            {}, optional={"by": _metrics, "bands": st.integers(1, 9), "of": st.just("source")}
        ),
        "domains": st.fixed_dictionaries({"shares": _shares}, optional={"least": st.floats(0, 0.5)}),
        "phases": _phases,
        "thin": _thins(),
        "review": st.fixed_dictionaries(
            {"share": _part}, optional={"by": st.just("forgetting"), "spacing": st.integers(1, 128)}
        ),
        "drop": _drops,
    },
)


@given(_blocks)
def test_any_blocks_survive_yaml(tmp_path_factory: pytest.TempPathFactory, blocks: Json) -> None:
    made = config(**blocks)
    path = tmp_path_factory.mktemp("yaml") / "recipe.yaml"
    path.write_text(made.to_yaml(), "utf-8")
    assert load_recipe(path) == made
    assert CampusConfig.from_mapping(made.to_mapping()) == made
    assert made.past() | made.future() == made.identity()
    assert isinstance(made.draw, DrawBlocks)


def test_the_blocks_of_the_documentation_are_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        textwrap.dedent(
            """
            campus:
              metrics: [length]
              cells: {by: length, bands: 5, of: source}
              domains: {shares: natural, least: .05, over: cells}
              phases:
                - {until: .5, shares: {math: .4, code: .6}, overlap: .1, offer: [length], mix: .2, top: {length: .3}}
                - {until: 1.0}
              thin: {how: proportional, by: seen_loss, keep: .5, power: 1, floor: .3, gate: null, detrend: true,
                     fresh: false, from: 0, until: 1}
              review: {share: .1, by: spacing, spacing: 2, from: 0, until: 1}
              drop:
                - {by: -length, lowest: .05}
                - {by: {name: column, path: v.parquet, on: id, column: value}, below: 0, at_most: .1}
                - {by: duplicates, keep: first}
                - {by: judged, path: judged.jsonl}
              control: shuffled_scores
            """
        )
    )
    read = load_recipe(path)
    assert read.draws_apart
    assert [spec.label for spec in read.scored] == ["length", "value"]


def test_an_entry_for_suspects_has_defaults_and_other_entries_are_written_as_ever() -> None:
    config = CampusConfig.from_mapping({"metrics": ["length"], "drop": [{"by": "suspects"}, {"by": "duplicates"}]})
    entry = config.draw.suspects
    assert entry is not None
    assert (entry.bound, entry.begins, entry.acts, entry.reason) == (0.2, 0.5, "found", "suspects")
    assert config.draws_apart
    assert not config.draw.uses_cells
    assert config.no_orders == ()
    told = config.to_mapping()["drop"]
    assert told[0].keys() == told[1].keys() == {"by", "lowest", "below", "at_most", "keep", "near", "path", "on"}
    whole = {"by": "suspects", "at_most": 0.1, "from": 0.3, "act": "never"}
    assert DropSettings.from_mapping(DropSettings.from_mapping(whole).to_mapping()).to_mapping()["from"] == 0.3
    cells = CampusConfig.from_mapping({"metrics": ["mtld"], "drop": [{"by": "suspects"}], "cells": {"bands": 2}})
    assert cells.draw.uses_cells
    assert cells.no_orders == ("length",)

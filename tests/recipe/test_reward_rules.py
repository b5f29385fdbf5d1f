"""What a recipe may say where a model is trained by reward, what only there, and what the block `passes` takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.recipe.policy import book_columns, cells_of, policy_of
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.words.errors import RecipeError

MIDDLE = {"how": "top", "by": "middle"}
ADVICE = {"metrics": ["length", "mtld"], "thin": MIDDLE}


def resolved(**settings: Any) -> CampusConfig:
    """As a reward trainer takes them."""
    config = for_rewards(CampusConfig.from_mapping(settings))
    return config.resolved(has_probes=False, domain_in_data=False, seed=0, by_rewards=True)


def problems(**settings: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        resolved(**settings)
    return "\n".join(caught.value.problems)


# -- what is there -----------------------------------------------------------------------------------------------------


def test_the_default_shuffles_and_acts_on_no_losses() -> None:
    config = resolved()
    assert (config.selector, config.weights, config.drop, config.draws_apart) == ("shuffle", None, None, False)
    assert CampusConfig().acts_by_default
    said = CampusConfig(passes=PassSettings(at=0.5))  # a recipe for rewards says so itself
    assert (said.weights, said.drop) == (None, None)


def test_orders_take_turns_where_no_loss_says_which_is_next() -> None:
    assert resolved(metrics=["length", "mtld"]).selector == "round_robin"
    assert resolved(metrics=["length"]).selector == "fixed"
    assert resolved(metrics=["length", "mtld"], selector="random").selector == "random"


def test_what_rewards_show_tries_prompts_by_itself_so_that_nothing_is_mixed_in() -> None:
    assert resolved(metrics=["length"], thin=MIDDLE).mix == 0
    assert resolved(metrics=["length"], thin=MIDDLE, mix=0.2).mix == 0.2
    assert resolved(metrics=["length"], thin={"how": "top", "by": "mtld"}).mix == 0.5


def test_prompts_are_compared_as_they_are_unless_the_recipe_names_cells() -> None:
    lengths = np.arange(60.0)
    domains = Domains(np.repeat([0, 1], 30), ["code", "math"])
    plain, inside = resolved(thin=MIDDLE), resolved(thin=MIDDLE, cells={"by": "length", "bands": 2})
    assert plain.cells is None
    assert plain.scored == ()
    assert cells_of(plain, lambda _: lengths, domains=domains) is None
    cells = cells_of(inside, lambda _: lengths, domains=domains)
    assert cells is not None
    assert len(cells.names) == 4
    assert book_columns(plain) is None


def test_the_policy_asks_the_pass_rates_themselves() -> None:
    config = resolved(thin={**MIDDLE, "by": "-easy_first", "keep": 1})
    rates = PassSettings().rates(60, group=4, scaled_by_group=True)
    policy = policy_of(config, n_rows=60, rates=rates)
    assert policy is not None
    assert policy.rates is rates
    assert policy.scores is None
    assert policy.thin is not None
    assert policy.thin.by_rewards
    assert policy.kept_at(0.5) == 1
    assert resolved(thin=MIDDLE, control="shuffled_scores").control == "shuffled_scores"


@pytest.mark.parametrize(
    ("middle", "by_group", "scaled"),
    [("auto", True, True), ("auto", False, False), ("chance", False, True), ("variance", True, False)],
)
def test_what_a_group_is_worth_is_as_the_trainer_scales_rewards(middle: Any, by_group: bool, scaled: bool) -> None:
    settings = PassSettings(at=0.5, forget=0.1, middle=middle)
    pools = np.array([0, 1, 1])
    rates = settings.rates(3, group=8, scaled_by_group=by_group, pools=pools)
    assert (rates.scaled, rates.group, rates.at, rates.forget) == (scaled, 8, 0.5, 0.1)
    assert rates.pools.tolist() == [0, 1, 1]


def test_the_block_is_part_of_what_a_run_is_and_is_not_written_where_it_is_not() -> None:
    config = CampusConfig(passes=PassSettings(at=2))
    assert config.past()["passes"]["at"] == 2
    assert CampusConfig.from_mapping(config.to_mapping()) == config
    assert "passes" not in CampusConfig().to_mapping()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probes": {"path": "x.jsonl"}}, "`probes` must be left out where a model is trained by reward, got {path: ["),
        ({"value": True}, "`value` must be left out where a model is trained by reward, got {adam: false, budget: "),
        ({"review": {"share": 0.1}}, "write thin: {how: top, by: middle}."),
        ({"weights": ["focal"]}, "`weights` must be left out where a model is trained by reward, got [{name: focal}]"),
        ({"when": {"stagnation": "note"}}, "`when` must be left out where a model is trained by reward, got "),
        (
            {"milestones": [{"name": "sums", "probe": "math", "loss": 1}]},
            "`milestones` must be left out where a model is trained by reward, got [{name: sums",
        ),
        ({"clock": "tokens"}, "`clock` must be left out where a model is trained by reward, got tokens: progress is "),
        (
            {"selector": "exp3s"},
            "got exp3s, which asks for probes. Write one of fixed, random, replayed, round_robin, ",
        ),
        ({"selector": "lowest_perplexity"}, "got lowest_perplexity, which asks for loss. Write one of fixed, "),
        ({"batching": "flat"}, "`batching` must be plain where a model is trained by reward, got flat: the trainer "),
        (
            {"drop": [{"by": "suspects"}]},
            "`drop: by` must be left out where a model is trained by reward, got suspects",
        ),
        (
            {"drop": [{"by": "value", "path": "x"}], "control": "drop_best"},
            "`control` must be left out where a model is trained by reward, got drop_best: nothing is valued",
        ),
        ({"domains": {"follow": "progress"}}, "`domains: follow` must be left out where a model is trained by reward"),
        ({"domains": {"reweight": "odm"}}, "`domains: reweight` must be left out where a model is trained by reward"),
        (
            {"domains": {"shares": {"math": 1}, "by": "weights"}},
            "`domains: by` must be left out where a model is trained by reward, got weights: rows are not weighed.",
        ),
        (
            {"thin": {"how": "rank"}},
            "or a metric where a model is trained by reward, got seen_loss, which losses of answers show. Write thin: ",
        ),
        ({"thin": {"how": "top", "by": "length", "fresh": True}}, "`thin: fresh` must be left out where a model is "),
        ({"metrics": ["loss"]}, "must have a reference answer of each prompt to read, got a recipe that names none."),
    ],
)
def test_what_goes_by_losses_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    assert message in problems(**{**ADVICE, **settings})


def test_all_of_it_is_told_at_once_and_what_is_advised_is_taken() -> None:
    told = problems(**ADVICE, value=True, weights=["focal"], batching="flat")
    assert [line.split("`")[1] for line in told.splitlines()] == ["value", "weights", "batching"]
    assert resolved(**ADVICE).selector == "round_robin"
    assert resolved(metrics=["loss"], passes={"answer": "solution"}).labels == ("loss",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"thin": MIDDLE},
            "`thin: by` must be a score of rows that have their answers, got middle, which rewards show",
        ),
        ({"passes": {"at": 0.5}}, "`passes` must be left out where rows have their answers, got {at: 0.5, "),
    ],
)
def test_what_rewards_alone_show_is_refused_where_there_are_none(settings: dict[str, Any], message: str) -> None:
    config = CampusConfig.from_mapping(settings)
    with pytest.raises(RecipeError) as caught:
        config.resolved(has_probes=False, domain_in_data=False, seed=0)
    assert message in str(caught.value)
    assert "GRPOTrainer or RLOOTrainer" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thin": {"how": "prune", "by": "middle"}}, "`thin: how` must choose among all prompts with by: middle, got "),
        ({"thin": {**MIDDLE, "fresh": True}}, "`thin: fresh` must go with by: seen_loss or a metric, got middle"),
        ({"thin": {"how": "proportional", "by": "-middle"}}, "`thin: by` must not be turned around with how: prop"),
        ({"thin": {"how": "top", "keep": 1}}, "`thin: keep` must be a number in (0, 1), got 1."),
        ({"thin": {**MIDDLE, "keep": 0}}, "`thin: keep` must be a number in (0, 1], got 0."),
        (
            {"metrics": [{"name": "length", "label": "middle"}], "thin": MIDDLE},
            "`thin: by` must mean one score, got 'middle', which training shows and which is a label of `metrics` too.",
        ),
        ({"passes": {"at": "full"}}, "`passes: at` must be a number in [-1000000000, 1000000000], got 'full'."),
        ({"passes": {"forget": 1}}, "`passes: forget` must be a number in [0, 1), got 1. Write 0.002."),
        ({"passes": {"middle": "best"}}, "`passes: middle` must be one of auto, chance, variance, got 'best'."),
        ({"passes": {"att": 1}}, "`passes` takes at, forget, middle, predict, answer, got 'att'. Did you mean 'at'?"),
        ({"passes": 1}, "`passes` must be a mapping, got 1. Write passes: {at: 1.0}."),
    ],
)
def test_a_wrong_block_is_answered_with_what_to_write(settings: dict[str, Any], message: str) -> None:
    assert message in problems(**settings)

"""Scores of prompts in a trainer that is driven by reward: texts, columns, losses of reference answers, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.demo.tiny import tiny_model
from campus_tune.method.budget import FEWEST
from campus_tune.method.pass_rates import PassRates
from campus_tune.metrics import parse_metric
from campus_tune.metrics.compression import text_compression
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_blocks import ThinSettings
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.recipe.prompt_metrics import metric_problems
from campus_tune.scores.prompt_features import prompt_features
from campus_tune.scores.prompt_scoring import PromptScoring
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import Json
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import dataset, tokenizer

N, GROUP = 96, 4
PAIRS = np.random.default_rng(0).integers(0, 60, (N, 2))
ROWS: list[Json] = [
    {
        "prompt": [{"role": "user", "content": f"What is {a} + {b}? {'Think. ' * (i % 3)}"}],
        "answer": str(a + b),
        "level": int(max(a, b)),
        "kind": ["small", "large"][int(a + b > 60)],
    }
    for i, (a, b) in enumerate(PAIRS.tolist())
]


def reward(**_: Any) -> list[float]:
    raise AssertionError("nothing is generated before the first step")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One for all: nothing here changes it."""
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        str(tmp_path_factory.mktemp("run")),
        per_device_train_batch_size=8,
        num_generations=GROUP,
        use_cpu=True,
        bf16=False,
        report_to="none",
        **{CHECKPOINTING: False},
    )
    torch.manual_seed(0)
    return GRPOTrainer(
        tiny_model(), reward_funcs=reward, args=args, train_dataset=dataset(ROWS), processing_class=tokenizer()
    )


def scoring(trainer: Any, *metrics: Any, n_answers: int = 4000, **settings: Any) -> PromptScoring:
    passes = PassSettings(answer=settings.pop("answer", None), predict=settings.pop("predict", True))
    given = {"selector": "round_robin", "seed": 1, "scores": "none", **settings}
    config = CampusConfig(metrics=list(metrics), passes=passes, **given)
    return PromptScoring.of(trainer, config, Peers(), n_answers=n_answers, groups=None)


def test_metrics_of_texts_score_the_prompts(trainer: Any) -> None:
    made = scoring(trainer, "length", "compression", {"name": "column", "column": "level"}, "-mtld")
    scores = made.start()
    asked = [row["prompt"][0]["content"] for row in ROWS]
    assert list(made.texts.response_text) == asked
    np.testing.assert_array_equal(
        scores.by_label["length"], [len(tokenizer()(text, add_special_tokens=False)["input_ids"]) for text in asked]
    )
    np.testing.assert_array_equal(scores.by_label["compression"], [text_compression(text) for text in asked])
    np.testing.assert_array_equal(scores.by_label["level"], [row["level"] for row in ROWS])
    assert scores.by_label["-mtld"].max() < 0
    assert made.budget.spent["scoring"] == 0
    assert len(made.rows) == N


@pytest.mark.parametrize("label", ["loss", "ifd"])
def test_a_metric_of_losses_is_of_the_reference_answers(trainer: Any, label: str) -> None:
    made = scoring(trainer, label, answer="answer", budget=10)
    scores = made.start()
    assert scores.notes[label]["rows_measured"] == N
    model = compat.model_of(trainer).eval()
    for i in (0, 17, 95):
        chat = [*ROWS[i]["prompt"], {"role": "assistant", "content": ROWS[i]["answer"]}]
        before = tokenizer().apply_chat_template(ROWS[i]["prompt"], add_generation_prompt=True, tokenize=False)
        whole = tokenizer().apply_chat_template(chat, tokenize=False).rstrip("\n")  # to the end token
        ids, n = (tokenizer()(text, add_special_tokens=False)["input_ids"] for text in (whole, before))
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        nats = torch.nn.functional.cross_entropy(logits[len(n) - 1 : -1], torch.tensor(ids[len(n) :])).item()
        if label == "loss":
            assert scores.by_label[label][i] == pytest.approx(nats, rel=1e-4)
        assert made.rows.answer_tokens[i] == len(ids) - len(n)
    assert made.budget.spent["scoring"] >= made.rows.tokens.sum()
    assert not vars(trainer).get("_buffered_inputs")


def test_another_models_losses_are_asked_too(trainer: Any, tmp_path: Path) -> None:
    tiny_model(seed=5).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    made = scoring(trainer, {"name": "perplexity", "model": str(tmp_path)}, answer="answer", budget=10)
    scores = made.start()
    own = scoring(trainer, "loss", answer="answer", budget=10).start()
    assert scores.by_label["perplexity"].std() > 0
    assert not np.allclose(scores.by_label["perplexity"], own.by_label["loss"])


def test_scoring_changes_nothing_of_the_trainer(trainer: Any) -> None:
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    states, mode, step = torch.get_rng_state(), trainer.model.training, trainer._step
    scoring(trainer, "loss", answer="answer", budget=10).start()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states)
    assert (trainer.model.training, trainer._step) == (mode, step)
    assert trainer._buffered_inputs is None


def test_a_budget_that_pays_for_some_predicts_the_others_and_says_how_well(trainer: Any) -> None:
    whole = scoring(trainer, "loss", "length", answer="answer", budget=10)
    price = int(whole.asking.start_tokens().sum())
    some = scoring(trainer, "loss", "length", answer="answer", budget=0.1)
    n_answers = int(0.8 * price * some.budget.ratio / (0.1 * float(np.mean(some.texts.prompt_tokens))))
    some = scoring(trainer, "loss", "length", answer="answer", budget=0.1, n_answers=n_answers)
    scores = some.start()
    assert FEWEST["scoring"] <= scores.notes["loss"]["rows_measured"] < N
    assert some.budget.spent["scoring"] <= some.budget.total
    (said,) = (warning for warning in scores.warnings if "predicted on the others" in warning)
    assert "campus-tune score" not in said  # it scores rows that have their answers
    enough = float(said.split("budget: ")[1].split(" ")[0])
    again = scoring(trainer, "loss", "length", answer="answer", budget=enough, n_answers=n_answers)
    assert again.start().notes["loss"]["rows_measured"] == N


def test_a_budget_that_pays_for_too_few_leaves_the_order_out_and_says_what_would(trainer: Any) -> None:
    made = scoring(trainer, "loss", "length", answer="answer", budget=0.01, n_answers=100)
    scores = made.start()
    assert list(scores.by_label) == ["length"]
    (said,) = scores.warnings
    assert "there is no order by loss" in said
    enough = float(said.split("Write budget: ")[1].split(" ")[0])
    again = scoring(trainer, "loss", "length", answer="answer", budget=enough, n_answers=100)
    assert "loss" in again.start().by_label


def test_scores_that_prompts_are_drawn_by_must_be_paid_for(trainer: Any) -> None:
    thin = ThinSettings.from_mapping({"how": "top", "by": "loss", "keep": 0.5})
    with pytest.raises(RecipeError, match=r"`budget` must pay for the scores that rows are drawn by") as refused:
        scoring(trainer, "loss", answer="answer", budget=0.01, n_answers=100, thin=thin).start()
    said = str(refused.value)
    assert "campus-tune score" not in said
    enough = float(said.split("Write budget: ")[1].split(" ")[0])
    paid = scoring(trainer, "loss", answer="answer", budget=enough, n_answers=100, thin=thin).start()
    assert "loss" in paid.by_label


@pytest.mark.parametrize("metric", ["loss", "length"])  # also where nothing asks for an answer's loss
def test_a_column_of_answers_that_is_not_there_is_named(metric: str, trainer: Any) -> None:
    with pytest.raises(DataError, match="`passes: answer` must be a column"):
        scoring(trainer, metric, answer="solution")


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("loss", r"`metrics: loss` must have a reference answer of each prompt to read, got a recipe that names none"),
        ("ifd", r"Write passes: \{answer: COLUMN\}"),
        ({"name": "quality", "model": "m"}, "or take this metric out"),
        ("scorer", "`metrics: scorer` must not stand in a recipe for a trainer that is driven by reward"),
        ("influence", "`metrics: influence` must have probes, which a trainer that is driven by reward does not"),
        ({"name": "length", "of": "both"}, "`metrics: length` must count the tokens of prompts"),
    ],
)
def test_metrics_that_prompts_cannot_have_are_refused_by_name(entry: Any, match: str) -> None:
    (problem,) = metric_problems([parse_metric(entry)], answer=None)
    with pytest.raises(RecipeError, match=match):
        raise RecipeError(problem)


def test_the_advice_holds() -> None:
    allowed = [parse_metric(each) for each in ("loss", "ifd", {"name": "quality", "model": "m"})]
    assert metric_problems(allowed, answer="answer") == []
    assert metric_problems([parse_metric({"name": "length", "of": "prompt"})], answer=None) == []


# -- predictions -----------------------------------------------------------------------------------------------------


def test_features_are_all_that_is_known_of_the_prompts(trainer: Any) -> None:
    made = scoring(trainer, "length", "loss", answer="answer", budget=10)
    features = prompt_features(made.texts, made.start().by_label)
    expected = ["length of answer", "level", "length of prompt", "mtld of prompt", "compression of prompt"]
    assert features.names == (*expected, "metric loss", "kind")  # `length` ranks as the length of the prompt does


def test_pass_rates_are_predicted_from_what_costs_nothing(trainer: Any) -> None:
    made, rates = scoring(trainer, "length"), PassRates(N, group=GROUP)
    scores = made.start()
    assert made.renew(rates, scores.by_label) is None
    assert rates.rate is None
    rng, easy = np.random.default_rng(0), np.array([row["level"] < 40 for row in ROWS])
    rows = np.arange(0, N, 2)
    rates.note(rows, (rng.random((len(rows), GROUP)) < np.where(easy, 0.9, 0.1)[rows, None]).astype(float), when=0)
    told = made.renew(rates, scores.by_label)
    assert told is not None
    assert (told["of"], told["prompts"], told["worth"]) == ("pass_rate", N // 2, rates.worth)
    assert "level" in told["used"]
    untried = np.arange(1, N, 2)
    assert rates.rate is not None
    assert rates.rate[untried][easy[untried]].mean() > rates.rate[untried][~easy[untried]].mean() + 0.5
    assert made.budget.seconds["prediction"] > 0
    assert made.budget.shares()["prediction"] == 0
    assert scoring(trainer, "length", predict=False).renew(rates, scores.by_label) is None


def test_where_nothing_tells_prompts_apart_pass_rates_keep_a_rate_of_their_own(trainer: Any) -> None:
    made, rates = scoring(trainer, "length"), PassRates(N, group=GROUP)
    rng = np.random.default_rng(6)
    rates.note(np.arange(0, N, 2), (rng.random((N // 2, GROUP)) < 0.5).astype(float), when=0)
    told = made.renew(rates, made.start().by_label)
    assert told is not None
    assert (told["used"], told["gain"], told["correlation"]) == ([], 0.0, None)
    assert rates.rate is None


def test_rewards_of_more_than_two_values_are_predicted_by_whether_a_group_has_a_spread(trainer: Any) -> None:
    made, rates = scoring(trainer, "length"), PassRates(N, group=GROUP)
    scores = made.start()
    rows, easy = np.arange(0, N, 2), np.array([row["level"] < 40 for row in ROWS])
    rewards = np.where(easy[rows, None], 0.3, np.array([0.1, 0.2, 0.3, 0.4]))
    rates.note(rows, rewards, when=0)
    told = made.renew(rates, scores.by_label)
    assert told is not None
    assert told["of"] == "spread"
    a, b = rates.spread_posterior()
    chance = (a / (a + b))[1::2]
    assert chance[~easy[1::2]].mean() > chance[easy[1::2]].mean() + 0.5


def test_a_resumed_run_predicts_the_same_without_scoring_anew(trainer: Any) -> None:
    """Nothing is remembered between two predictions but what pass rates and scores say."""
    going = scoring(trainer, "length", "loss", answer="answer", budget=10)
    scores = going.start()
    rates = [PassRates(N, group=GROUP) for _ in range(2)]
    rng = np.random.default_rng(1)
    for when in range(3):
        rows = np.arange(when * 20, when * 20 + 20)
        rewards = (rng.random((20, GROUP)) < 0.5).astype(float)
        rates[0].note(rows, rewards, when=when)
        if when < 2:
            going.renew(rates[0], scores.by_label)
    rates[1].load(rates[0].state())
    resumed = scoring(trainer, "length", "loss", answer="answer", budget=10)
    told = [made.renew(each, scores.by_label) for made, each in zip((going, resumed), rates, strict=True)]
    assert told[0] == told[1]
    for one, other in zip(rates[0].posterior(), rates[1].posterior(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_predictions_took_is_remembered_by_a_checkpoint(trainer: Any) -> None:
    made = scoring(trainer, "length")
    made.budget.charge("prediction", 0, 2.5)
    again = scoring(trainer, "length").budget
    again.load(made.budget.state())
    assert again.seconds["prediction"] == 2.5
    assert again.shares() == made.budget.shares()

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.words.errors import DataError, MetricError
from tests.run.tiny_run import RECIPE, task_rows, tiny_trainer
from tests.run.witness import events, ledger


def run(out: Path, **settings: Any) -> Any:
    trainer = tiny_trainer(out, **settings)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run with selection and probes, logged to TensorBoard as well."""
    out = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(out / "board"))
        config = RECIPE | {"selector": "matched", "metrics": ["length", "-length"], "budget": 3.0}
        trainer = run(out, n=36, probes=20, report_to="tensorboard", config=config)
    return out, trainer


SCALARS = {
    "campus/stage",
    "campus/scope",
    "campus/cost_share",
    "campus/chosen/length",
    "campus/perplexity/length",
    "campus/competence/arithmetic",
    "campus/probe_loss/arithmetic",
}


def test_scalars_stand_in_the_line_of_the_loss_and_are_plain_numbers(logged: Any) -> None:
    *lines, end = [line for line in logged[1].state.log_history if any(name.startswith("campus/") for name in line)]
    assert "loss" in end or "train_runtime" in end
    assert lines
    assert set().union(*lines) >= SCALARS
    for line in lines:
        assert {"loss", "grad_norm", "learning_rate", "mean_token_accuracy"} <= set(line)
        assert all(type(value) in (int, float) for value in line.values())
    json.dumps(logged[1].state.log_history, allow_nan=False)


def test_every_decision_shows_once_in_the_first_line_after_it(logged: Any) -> None:
    out, trainer = logged
    shown = [(line["step"], line["campus/stage"]) for line in trainer.state.log_history if "campus/stage" in line]
    decided = [(decision["step"], decision["stage"]) for decision in events(out, "decision")]
    assert shown == [(max(1, step), stage) for step, stage in decided]


def test_scalars_are_what_the_ledger_says(logged: Any) -> None:
    out, trainer = logged
    first = events(out, "decision")[0]
    line = next(line for line in trainer.state.log_history if line.get("campus/stage") == first["stage"])
    probe = events(out, "probes")[0]["domains"]["arithmetic"]
    assert line["campus/competence/arithmetic"] == probe["competence"]
    assert line["campus/scope"] == first["scope"][1]
    for offer in first["offers"]:
        assert line[f"campus/perplexity/{offer['name']}"] == offer["perplexity"]
        assert line[f"campus/chosen/{offer['name']}"] == int(offer["name"] == first["chosen"])


def test_scalars_reach_tensorboard_beside_the_loss(logged: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, trainer = logged
    board = EventAccumulator(str(out / "board"))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {f"train/{name}" for name in SCALARS} | {"train/loss"} <= tags
    stages = [(point.step, point.value) for point in board.Scalars("train/campus/stage")]
    lines = trainer.state.log_history
    assert stages == [(line["step"], line["campus/stage"]) for line in lines if "campus/stage" in line]


def test_the_ledger_reads_with_plain_json_and_tells_the_run_in_its_sequence(logged: Any) -> None:
    out, _ = logged
    text = (out / "curriculum" / "ledger.jsonl").read_text("utf-8")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert text.endswith("\n")
    names = [line["event"] for line in lines]
    assert names[0] == "run"
    assert names[-1] == "end"
    assert [name for name in names if name in ("probes", "decision", "stage_end")] == [
        *["probes", "decision", "stage_end"] * 3,
        "probes",
    ]
    steps = [line["step"] for line in lines if "step" in line]
    assert steps == sorted(steps)


def test_a_run_leaves_what_it_promises(logged: Any) -> None:
    from campus_tune import load_recipe

    folder = logged[0] / "curriculum"
    assert {"ledger.jsonl", "recipe.yaml", "scores", "training_losses"} <= {path.name for path in folder.iterdir()}
    resolved = load_recipe(folder / "recipe.yaml")
    assert resolved.selector == "matched"
    assert resolved.seed == 3
    assert not list(folder.rglob("*.tmp"))


# -- what a person reads ----------------------------------------------------------------------------------------------


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("campus: ")]


def test_a_run_ends_with_rows_coverage_cost_and_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RECIPE | {"metrics": ["length", "-length"], "selector": "round_robin", "stages": 4, "handover": 0.5}
    run(tmp_path, n=32, config=config)
    lines = lines_of(capsys)
    last = [line for line in lines if not line.startswith(("campus: padding ", "campus: no padding"))][-7:]
    assert last[0] == "campus: rows by sub-curriculum: length 25%, -length 25%, shuffle 50%"
    assert last[1] == "campus: rows: 32 of 32 seen (100%), each once per epoch, 1.00 epochs"
    paid = r"of the training compute against a budget of 50.0% \(scoring 0.0%, selection 0.0%, probes 0.0%, map \1\)"
    assert re.match(rf"campus: cost: (\d+\.\d%) {paid}", last[2])
    assert last[3] == "campus: order audit: all 8 steps trained the planned rows, tokens and labels"
    assert last[4].startswith("campus: data map · ")
    assert last[5].startswith("campus: advice · ")
    assert last[6] == f"campus: everything about this run is in {tmp_path / 'curriculum'}"
    decisions = [line for line in lines if line.startswith("campus: step ")]
    assert len(decisions) == len(events(tmp_path, "decision")) == 4
    assert "step 0/8 · stage 0 · length (not measured), 8 rows of scope 0.00–" in decisions[0]
    assert "shuffled, 8 rows" in decisions[3]


def test_a_one_sided_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RECIPE | {"selector": {"name": "fixed", "order": "length"}, "metrics": ["length", "mtld"]}
    run(tmp_path, n=16, config=config)
    warnings = [line for line in lines_of(capsys) if "warning" in line]
    assert any("length supplied 100% of the curriculum's rows: this was a curriculum by length" in w for w in warnings)


def test_a_single_metric_or_a_shuffle_is_not_called_one_sided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "one", n=16, config=RECIPE | {"metrics": ["length"]})
    run(tmp_path / "none", n=16, config={"metrics": [], "selector": "shuffle", "stages": 2})
    lines = lines_of(capsys)
    assert not any("supplied" in line for line in lines)
    assert "campus: rows by sub-curriculum: shuffle 100%" in lines


def test_rows_that_repeat_are_counted_in_the_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RECIPE | {"window": "slice", "coverage": "revisit", "selector": "round_robin", "stages": 4}
    run(tmp_path, n=32, config=config)
    end = ledger(tmp_path)[-1]
    assert end["rows_seen"] + end["rows_repeated"] == end["visits"] == 32
    assert end["rows_repeated"] > 0
    share = f"{end['rows_seen']} of 32 seen"
    assert any(
        share in line and f"{end['rows_repeated']} of 32 visits were repeats" in line for line in lines_of(capsys)
    )


def test_a_budget_that_is_too_small_is_called_so_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, n=24, probes=20, config=RECIPE | {"budget": 0.01})
    lines = lines_of(capsys)
    assert sum("the budget is too small for this run" in line for line in lines) == 1
    assert ledger(tmp_path)[-1]["cost"]["all"] <= 0.01


def test_the_trainers_own_log_is_untouched_without_a_loss(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=8)
    trainer.log({"mine": 1.0})
    assert [name for name in trainer.state.log_history[-1] if name.startswith("campus/")] == []
    trainer.train()
    assert "campus/stage" in next(line for line in trainer.state.log_history if "loss" in line)


def test_what_is_logged_seldom_is_the_latest(tmp_path: Path) -> None:
    trainer = run(tmp_path, n=24, logging_steps=3, config=RECIPE | {"selector": "round_robin"})
    shown = [(line["step"], line.get("campus/stage")) for line in trainer.state.log_history if "loss" in line]
    assert shown == [(3, 1), (6, 2)]


def test_what_was_measured_after_the_last_logged_step_stands_in_the_last_line(tmp_path: Path) -> None:
    trainer = run(tmp_path, n=12, probes=8, logging_steps=2, config=RECIPE | {"selector": "round_robin", "budget": 5.0})
    last = trainer.state.log_history[-1]
    assert last["step"] == 3
    assert last["campus/probe_loss/text"] == events(tmp_path, "probes")[-1]["domains"]["text"]["loss"]


def test_rows_of_another_run_in_the_folder_are_kept(tmp_path: Path) -> None:
    run(tmp_path, n=8)
    first = (tmp_path / "curriculum" / "ledger.jsonl").read_text()
    run(tmp_path, train=task_rows(8, seed=5))
    assert (tmp_path / "curriculum" / "ledger.1.jsonl").read_text() == first
    assert (tmp_path / "curriculum" / "ledger.jsonl").read_text() != first


def test_a_new_run_in_the_same_folder_keeps_what_the_old_one_wrote(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, n=12)
    folder = tmp_path / "curriculum"
    old, new = read_ledger(folder / "ledger.1.jsonl"), read_ledger(folder / "ledger.jsonl")
    assert (old[-1]["found"], new[-1]["found"] > 0) == (0, True)  # in the score cache: all that differs
    assert comparable(new) == comparable(old)
    names = [
        sorted(path.name for path in (folder / name).iterdir()) for name in ("training_losses.1", "training_losses")
    ]
    assert names[0] == names[1] != []


def test_a_run_that_is_told_to_stop_closes_its_stage_and_counts_what_it_trained(tmp_path: Path) -> None:
    class StopAtTwo(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # theirs
            control.should_training_stop = state.global_step == 2

    run(tmp_path, n=48, probes=25, callbacks=[StopAtTwo()], config=RECIPE | {"budget": 5.0})
    *_, stage_end, probes, mapped, end = read_ledger(tmp_path / "curriculum" / "ledger.jsonl")
    assert [event["event"] for event in (stage_end, probes, mapped, end)] == ["stage_end", "probes", "map", "end"]
    assert stage_end["rows_with_loss"] == 8
    assert (end["step"], end["rows_seen"]) == (2, 8)


def test_a_training_loss_of_nan_stops_a_run_that_measures_nothing(tmp_path: Path) -> None:
    recipe = {"metrics": ["length"], "selector": "round_robin", "stages": 3}
    trainer = tiny_trainer(tmp_path, config=recipe, learning_rate=1e30, max_grad_norm=0, n=24)
    with pytest.raises(MetricError, match=r"the gradients of step 2 must be finite, got NaN or inf. The model has div"):
        trainer.train()


def test_checkpoints_without_optimizer_state_are_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, n=12, save_only_model=True)
    assert "save_only_model" in capsys.readouterr().out


def test_the_level_that_is_named_is_what_the_metrics_are_compared_with(tmp_path: Path) -> None:
    rows = [{**{k: v for k, v in row.items() if k != "level"}, "grade": row["level"]} for row in task_rows(24)]
    found = {}
    for level in (None, "grade"):
        out = tmp_path / str(level)
        run(out, train=rows, config={**RECIPE, "level": level})
        found[level] = events(out, "health")[0]["metrics"]["length"].get("with_level")
    assert found[None] is None
    assert found["grade"] > 0.3  # harder demo tasks have longer answers
    with pytest.raises(DataError, match=r"`level` must be a column of the training set .* got 'grad'.*Did you mean"):
        run(tmp_path / "misspelt", train=rows, config={**RECIPE, "level": "grad"})

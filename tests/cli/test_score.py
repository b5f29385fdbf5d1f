"""`campus-tune score`: all scores ahead of training, found by the run that follows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from campus_tune.cli.main import main as campus_tune
from campus_tune.model.measure import LossMeter
from campus_tune.run.ledger import read_ledger
from campus_tune.scores import passages
from tests.json_answers import answer
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import task_rows

METRICS = ["length", "mtld", "loss", {"name": "scorer", "new_tokens": 4}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from campus_tune.demo.tiny import write_tiny

    return str(write_tiny(tmp_path_factory.mktemp("score") / "model"))


@pytest.fixture
def recipe(model: str, tmp_path: Path) -> dict[str, Any]:
    """A YAML's settings that train a tiny model on 120 rows, with a budget that pays for few of them."""
    rows = tmp_path / "train.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in task_rows(120)))
    return {
        "model_name_or_path": model,
        "dataset_name": str(rows),
        "output_dir": str(tmp_path / "run"),
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "report_to": "none",
        "save_strategy": "no",
        "campus": {"metrics": METRICS, "stages": 3, "budget": 0.01, "scores": str(tmp_path / "cache")},
    }


def score(recipe: dict[str, Any], *flags: str) -> int:
    path = Path(recipe["output_dir"]).with_name("recipe.yaml")
    path.write_text(yaml.safe_dump(recipe))
    return campus_tune(["score", "--config", str(path), *flags])


def measured(out: str) -> dict[str, tuple[int, int]]:
    """What the table of timings says: measurement → (rows, found in the cache)."""
    lines = out[out.index("measured ") :].split("\nmetric ")[0].splitlines()[1:]
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return {line[0]: (int(line[1]), int(line[2])) for line in cells}


def test_all_rows_are_scored_and_the_second_time_all_are_found(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(recipe) == 0
    out = capsys.readouterr().out
    assert measured(out) == {
        "mtld": (120, 0),
        "scorer: its training": (16, 0),
        "rows under the model in hand": (120, 0),
    }
    assert re.search(r"^metric +rows .* ρ length", out, re.MULTILINE)
    assert f"scores of 120 rows are in {recipe['campus']['scores']}" in out
    assert score(recipe) == 0
    again = capsys.readouterr().out
    assert measured(again) == {"mtld": (120, 120), "rows under the model in hand": (120, 120)}
    assert again[again.index("\nmetric ") :] == out[out.index("\nmetric ") :]


def test_its_json_has_the_numbers_of_both_tables(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    recipe["campus"]["metrics"] = ["loss", "length"]
    path = Path(recipe["output_dir"]).with_name("recipe.yaml")
    path.write_text(yaml.safe_dump({**recipe, "dataset_name": "nowhere"}))
    found = answer(capsys, "score", path, "--data", recipe["dataset_name"], "--out", recipe["campus"]["scores"])
    assert (found["rows"], found["scores"]) == (120, recipe["campus"]["scores"])
    assert {one["what"]: (one["rows"], one["found"]) for one in found["measured"]} == {
        "rows under the model in hand": (120, 0)
    }
    assert score(recipe) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("loss "))
    assert f"{found['health']['metrics']['loss']['quantiles'][2]:.4g}"[:4] in line
    assert all(one["what"] for one in found["findings"])


def test_a_run_uses_all_rows_that_were_scored_ahead_and_pays_as_for_a_sample(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from campus_tune.cli import sft

    def run(out: str) -> tuple[dict[str, Any], dict[str, Any]]:
        path = Path(out).with_name("run.yaml")
        path.write_text(yaml.safe_dump(recipe | {"output_dir": out}))
        assert sft.main(["--config", str(path)]) == 0
        events = read_ledger(Path(out) / "curriculum" / "ledger.jsonl")
        return {e["metric"]: e for e in events if e["event"] == "scores"}, events[-1]

    poor, _ = run(f"{recipe['output_dir']}-poor")
    assert "loss" not in poor
    (enough,) = re.findall(r"Write budget: ([\d.]+\d)", capsys.readouterr().out)
    recipe["campus"]["budget"] = float(enough)
    cold, cold_end = run(f"{recipe['output_dir']}-cold")
    assert cold["loss"]["rows_measured"] == 32  # half of the usual fewest: the budget does not pay for more
    assert "prediction_correlation" in cold["loss"]
    score(recipe)
    capsys.readouterr()
    warm, warm_end = run(f"{recipe['output_dir']}-warm")
    assert warm["loss"]["rows_measured"] == 120
    assert "prediction_correlation" not in warm["loss"]
    assert "were found in the cache, not measured" in capsys.readouterr().out
    assert (cold_end["found"], warm_end["found"] > 0) == (0.0, True)
    assert warm_end["cost"]["scoring"] <= cold_end["cost"]["scoring"]


def test_sft_takes_the_folder_of_the_cache_by_the_same_flag(recipe: dict[str, Any]) -> None:
    from campus_tune.recipe.trl_yaml import read_arguments

    path = Path(recipe["output_dir"]).with_name("flag.yaml")
    path.write_text(yaml.safe_dump(recipe))
    _, block, flags = read_arguments(["--config", str(path), "--scores", "elsewhere", "--max_steps", "2"])
    assert block is not None
    assert (block["scores"], flags) == ("elsewhere", ["--max_steps", "2"])


def test_a_second_run_of_the_same_recipe_finds_its_sample_and_decides_the_same(recipe: dict[str, Any]) -> None:
    from campus_tune.cli import sft

    recipe["campus"]["budget"] = 3.0
    ledgers = []
    for name in ("first", "second"):
        out = f"{recipe['output_dir']}-{name}"
        path = Path(out).with_name(f"{name}.yaml")
        path.write_text(yaml.safe_dump(recipe | {"output_dir": out}))
        sft.main(["--config", str(path)])
        events = read_ledger(Path(out) / "curriculum" / "ledger.jsonl")
        ledgers.append([{k: v for k, v in e.items() if k not in ("seconds", "found")} for e in events])
    assert ledgers[0] == ledgers[1]


def test_other_metrics_can_be_named_on_the_command_line(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(Path(recipe["output_dir"]).with_name("elsewhere"))
    assert score(recipe, "--metrics", "confidence", "{name: loss, reduce: sum}", "--scores", folder) == 0
    out = capsys.readouterr().out
    assert measured(out) == {"rows under the model in hand": (120, 0)}  # one forward for both
    assert re.findall(r"^(\w+) +120", out, re.MULTILINE) == ["confidence", "loss"]
    assert list(Path(folder).glob("loss-*/shard-*"))


def test_what_the_draw_goes_by_is_scored_too_and_left_out_where_other_metrics_are_named(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["campus"] |= {"metrics": ["mtld"], "thin": {"how": "rank", "by": "loss"}}
    recipe["campus"]["phases"] = [{"until": 1, "offer": ["mtld"]}]
    assert score(recipe) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(\w+) +120", out.split("\nmetric ")[1], re.MULTILINE) == ["mtld", "length", "loss"]
    assert measured(out)["rows under the model in hand"] == (120, 0)
    assert score(recipe, "--metrics", "compression") == 0
    out = capsys.readouterr().out
    assert set(re.findall(r"^(\w+) +120", out, re.MULTILINE)) == {"compression"}


def test_flags_of_the_trainer_override_the_yaml(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    score(recipe)
    capsys.readouterr()
    assert score(recipe, "--max_length", "24") == 0  # other tokens: other rows
    rows, found = measured(capsys.readouterr().out)["rows under the model in hand"]
    assert found < rows


def test_a_killed_score_goes_on_where_it_stopped(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["campus"]["metrics"] = ["loss"]
    monkeypatch.setattr(passages, "AT_ONCE", 50)
    measure, calls = LossMeter.measure, [0]

    def killed(self: LossMeter, rows: Any, **rest: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return measure(self, rows, **rest)

    monkeypatch.setattr(LossMeter, "measure", killed)
    assert score(recipe) == 130
    assert "interrupted. What was measured is kept: the same command goes on." in capsys.readouterr().out
    monkeypatch.setattr(LossMeter, "measure", measure)
    assert score(recipe) == 0
    assert measured(capsys.readouterr().out) == {"rows under the model in hand": (120, 50)}


def test_a_changed_row_is_scored_again_alone(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    recipe["campus"]["metrics"] = ["loss", "mtld"]
    score(recipe)
    rows = [json.loads(line) for line in Path(recipe["dataset_name"]).read_text().splitlines()]
    rows[7]["completion"] = [{"role": "assistant", "content": "an answer that nobody has seen"}]
    Path(recipe["dataset_name"]).write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    capsys.readouterr()
    score(recipe)
    assert measured(capsys.readouterr().out) == {"mtld": (120, 119), "rows under the model in hand": (120, 119)}


def test_a_cache_of_another_model_is_named_and_not_used(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from campus_tune.demo.tiny import write_tiny

    recipe["campus"]["metrics"] = ["loss"]
    score(recipe)
    recipe["model_name_or_path"] = str(write_tiny(Path(recipe["output_dir"]).with_name("other"), seed=5))
    capsys.readouterr()
    score(recipe)
    out = capsys.readouterr().out
    assert measured(out) == {"rows under the model in hand": (120, 0)}
    assert re.search(r"warning: `scores`: .*another model", out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": "none"}, "`scores` must name a folder to keep scores in, got none"),
        ({"metrics": [], "selector": "shuffle"}, "`metrics` must name what to score, got nothing"),
        ({"metrics": ["lenght"]}, "Did you mean 'length'"),
    ],
)
def test_a_recipe_with_nothing_to_score_or_keep_is_refused(
    recipe: dict[str, Any], change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["campus"] |= change
    assert score(recipe) == 2
    assert message in capsys.readouterr().err


def test_several_problems_are_said_at_once(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    recipe["campus"]["rescore"] = -1
    recipe["learning_rat"] = 1
    del recipe["model_name_or_path"]
    assert score(recipe) == 2
    err = capsys.readouterr().err
    assert "`rescore` must be a whole number of at least 0" in err
    assert "Did you mean 'learning_rate'" in err
    assert "`model_name_or_path` must be a model folder" in err


def test_slopes_towards_the_probes_are_scored_ahead_too(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from campus_tune.cli import sft

    probes = tmp_path / "probes.jsonl"
    probes.write_text("".join(json.dumps(row) + "\n" for row in task_rows(50, seed=77)))
    recipe["campus"] |= {"metrics": ["-influence"], "rescore": 0, "probes": {"path": str(probes)}}
    assert score(recipe) == 0
    assert measured(capsys.readouterr().out) == {"slopes towards all probes": (120, 0)}
    assert score(recipe) == 0
    assert measured(capsys.readouterr().out) == {"slopes towards all probes": (120, 120)}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert sft.main(["--config", str(path)]) == 0
    events = read_ledger(Path(recipe["output_dir"]) / "curriculum" / "ledger.jsonl")
    (line,) = [event for event in events if event["event"] == "scores"]
    assert line["rows_measured"] == 120
    assert line["probe_rows"] == 20  # half of the usual fewest of each domain: the budget does not pay for more
    assert events[-1]["cost"]["scoring"] == 0.0  # what pays for no sample is charged none


def test_slopes_without_probes_are_refused(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert score(recipe, "--metrics", "influence") == 2
    assert "`influence` must have probes to say what lowers their loss, got none." in capsys.readouterr().err

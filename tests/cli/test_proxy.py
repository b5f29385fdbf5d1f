"""`campus-tune proxy`: a small model trained once, kept early and late, and what it says of every row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from campus_tune.cli import proxy
from campus_tune.cli.main import main as campus_tune
from campus_tune.data.prepared import read_rows
from campus_tune.run.proxy import KeepEarly, early_step
from campus_tune.scores.cache import read_columns
from campus_tune.scores.proxy_losses import losses_before, proxy_losses
from campus_tune.words.errors import DataError, MetricError, RecipeError, ResumeError, TrainerError
from campus_tune.words.types import Json
from tests.json_answers import answer
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import dataset, task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, assert_close

ROWS = 24


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains a tiny model for twelve steps; its campus block is not a proxy's business."""
    from campus_tune.demo.tiny import write_tiny

    folder = tmp_path_factory.mktemp("proxy")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task_rows(ROWS)))
    write_tiny(folder / "small", layers=1, seed=4)
    settings = {
        "model_name_or_path": str(write_tiny(folder / "model")),
        "dataset_name": str(folder / "train.jsonl"),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 3e-3,
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "eval_strategy": "epoch",
        "campus": {"metrics": [{"name": "learnability", "proxy": "proxy"}]},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def made(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished proxy."""
    out = tmp_path_factory.mktemp("made") / "proxy"
    proxy.main(["--config", str(recipe)], out=out, early=0.25)
    return out


def about(out: Path) -> Json:
    found: Json = json.loads((out / "proxy.json").read_text())
    return found


def trainer_with(folder: Path, tmp_path: Path) -> Any:
    """A trainer over the proxy's rows with a kept model in it."""
    from transformers import AutoModelForCausalLM

    return tiny_trainer(
        tmp_path, config=False, model=AutoModelForCausalLM.from_pretrained(folder), train=dataset(task_rows(ROWS))
    )


def test_a_proxy_is_kept_early_and_late_with_its_tokenizer_and_what_it_cost(made: Path) -> None:
    for name in ("early", "late"):
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in (made / name).iterdir()}
    told = about(made)
    assert told["steps"] == {"early": 3, "late": 12}
    assert told["rows"] == ROWS
    assert set(told["seconds"]) == {"training", "measuring"}
    assert told["command"].startswith("campus-tune proxy --config ")
    assert told["loss"]["late"] < told["loss"]["early"]
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []


def test_its_losses_are_those_of_the_kept_models(made: Path, tmp_path: Path) -> None:
    kept = {}
    for name in ("early", "late"):
        trainer = trainer_with(made / name, tmp_path / name)
        kept[name] = all_slow_losses(trainer, range(ROWS))
        assert about(made)["loss"][name] == pytest.approx((kept[name].nll_sum / kept[name].tokens).mean(), rel=1e-5)
    content = read_rows(trainer.train_dataset).trained
    found = proxy_losses(made, content[::-1])
    assert found is not None
    for losses, name in zip(found, ("early", "late"), strict=True):
        assert_close(losses.take(np.arange(ROWS)[::-1]), kept[name])


def test_its_losses_before_training_are_those_of_the_model_it_begins_with(
    recipe: Path, made: Path, tmp_path: Path
) -> None:
    trainer = trainer_with(recipe.parent / "model", tmp_path)
    slow = all_slow_losses(trainer, range(ROWS))
    content = read_rows(trainer.train_dataset).trained
    before = losses_before(made / "start.parquet", content)
    assert before is not None
    assert_close(before, slow)
    columns, _ = read_columns(made / "losses.parquet")
    np.testing.assert_array_equal(columns["start_nll_sum"], before.nll_sum)
    assert len(np.unique(columns["key"])) == len({json.dumps(row) for row in task_rows(ROWS)})
    assert losses_before(made / "start.parquet", content[::-1]) is None  # other rows by now
    assert losses_before(tmp_path / "start.parquet", content) is None  # begun by an earlier version


def test_losses_of_rows_that_it_has_not_seen_are_not_made_up(made: Path, tmp_path: Path) -> None:
    columns, _ = read_columns(made / "losses.parquet")
    assert proxy_losses(made, np.append(columns["content"], np.uint64(1))) is None
    assert proxy_losses(tmp_path, columns["content"]) is None


def test_its_json_is_what_is_kept_of_it(recipe: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "proxy", recipe, "--out", made, "--early", 0.25)
    assert found == {"out": str(made), **about(made)}
    assert f"{found['loss']['late']:.4f} late" in told_by(recipe, made, capsys)


def told_by(recipe: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert campus_tune(["proxy", "--config", str(recipe), "--out", str(made), "--early", "0.25"]) == 0
    return capsys.readouterr().out


def test_a_finished_proxy_says_so_and_does_nothing(
    recipe: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "make_trainer", None)
    before = (made / "losses.parquet").stat().st_mtime_ns
    assert campus_tune(["proxy", "--config", str(recipe), "--out", str(made), "--early", "0.25"]) == 0
    told = capsys.readouterr().out
    assert "is finished: nothing to do" in told
    assert f"{{name: -learnability, proxy: {made}}}" in told
    assert "early (step 3)" in told
    assert (made / "losses.parquet").stat().st_mtime_ns == before


def test_a_folder_holds_one_proxy(recipe: Path, made: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"begun with other settings: early 0.25 there and 0.5 now; flags .*--max_steps"
    ):
        proxy.main(["--config", str(recipe), "--max_steps", "4"], out=made, early=0.5)


@pytest.mark.parametrize("name", ["late", "early", "training"])
def test_a_folder_of_something_else_is_not_replaced(recipe: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "model.safetensors").write_text("my own model")
    with pytest.raises(RecipeError, match=rf"new folder or that of a proxy, got {name} in .* no proxy\.json"):
        proxy.main(["--config", str(recipe)], out=tmp_path, early=0.25)
    assert (tmp_path / name / "model.safetensors").read_text() == "my own model"


class KilledError(Exception):
    pass


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies after this step's checkpoints; training later continues past it."""
    steps = KeepEarly.on_step_begin

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **more: Any) -> Any:
        if state.global_step == step:
            raise KilledError
        return steps(self, args, state, control, **more)

    monkeypatch.setattr(KeepEarly, "on_step_begin", on_step_begin)


def losses_of(out: Path) -> Any:
    return {name: values.tolist() for name, values in read_columns(out / "losses.parquet")[0].items()}


@pytest.mark.parametrize("killed_at", [2, 5])
def test_a_killed_proxy_goes_on_and_ends_the_same(
    recipe: Path,
    made: Path,
    tmp_path: Path,
    killed_at: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "proxy"
    with monkeypatch.context() as patch:
        kill_at(killed_at, patch)
        with pytest.raises(KilledError):
            proxy.main(["--config", str(recipe)], out=out, early=0.25)
    assert not about(out)["finished"]
    proxy.main(["--config", str(recipe)], out=out, early=0.25)
    assert ("resuming the proxy at step 3 of 12" in capsys.readouterr().out) == (killed_at == 5)
    assert losses_of(out) == losses_of(made)
    assert about(out)["loss"] == about(made)["loss"]


def test_a_proxy_killed_while_it_measures_is_not_trained_again(
    recipe: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "proxy"
    shutil.copytree(made, out)
    (out / "losses.parquet").unlink()
    (out / "proxy.json").write_text(json.dumps({**about(made), "finished": False}))
    monkeypatch.setattr("campus_tune.run.proxy.train", None)
    proxy.main(["--config", str(recipe)], out=out, early=0.25)
    assert losses_of(out) == losses_of(made)


def test_a_damaged_checkpoint_of_a_proxy_is_not_resumed(
    recipe: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "proxy"
    with monkeypatch.context() as patch:
        kill_at(5, patch)
        with pytest.raises(KilledError):
            proxy.main(["--config", str(recipe)], out=out, early=0.25)
    optimizer = out / "training" / "checkpoint-3" / "optimizer.pt"
    whole = optimizer.read_bytes()
    optimizer.write_bytes(whole[:-1])
    with pytest.raises(ResumeError, match=r"checkpoint-3: optimizer\.pt has \d+ bytes"):
        proxy.main(["--config", str(recipe)], out=out, early=0.25)
    optimizer.write_bytes(whole)
    proxy.main(["--config", str(recipe)], out=out, early=0.25)
    assert losses_of(out) == losses_of(made)


def test_a_proxy_whose_early_model_is_gone_is_trained_anew_and_not_resumed_behind_it(
    recipe: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "proxy"
    shutil.copytree(made, out)
    shutil.rmtree(out / "early")
    proxy.main(["--config", str(recipe)], out=out, early=0.25)
    assert losses_of(out) == losses_of(made)


def test_a_proxy_that_gets_worse_is_an_error_that_keeps_everything(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proxy"
    command = ["proxy", "--config", str(recipe), "--out", str(out), "--learning_rate", "1", "--max_steps", "4"]
    command += ["--warmup_steps", "2"]  # so that the first step does no harm
    for _ in range(2):  # the second time it is finished, and as bad
        assert campus_tune(command) == 2
        assert "a proxy must learn, got a mean loss of" in capsys.readouterr().err
    assert about(out)["loss"]["late"] > about(out)["loss"]["early"]
    assert (out / "losses.parquet").exists()
    with pytest.raises(MetricError, match="Everything is kept in"):
        proxy._sum_up(out, about(out))


def test_a_proxy_that_diverged_is_an_error_that_keeps_its_models(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proxy"
    command = ["proxy", "--config", str(recipe), "--out", str(out), "--learning_rate", "1e12", "--max_steps", "4"]
    assert campus_tune(command) == 2
    assert "the loss of every row must be finite, got NaN or inf on 24 of 24" in capsys.readouterr().err
    assert (out / "early").is_dir()
    assert (out / "late").is_dir()


def test_another_model_may_be_the_proxy_and_a_lora_is_kept_as_an_adapter(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "proxy"
    flags = ["--config", str(recipe), "--use_peft", "true", "--lora_r", "2", "--max_steps", "4"]
    proxy.main(flags, out=out, model=str(recipe.parent / "small"))
    for name in ("early", "late"):
        adapter = json.loads((out / name / "adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == str(recipe.parent / "small")
    assert about(out)["command"].endswith(f"--model {recipe.parent / 'small'}")


@pytest.mark.parametrize(
    ("flags", "early", "message"),
    [
        ([], 0.0, "`--early` must be between 0 and 1, got 0.0"),
        ([], 1.0, "`--early` must be between 0 and 1, got 1.0"),
        (["--learning_rte", "1"], 0.1, "Did you mean 'learning_rate'"),
        (["--dataset_train_split", "trian"], 0.1, "must be one of train, got 'trian'"),
    ],
)
def test_wrong_settings_are_refused(flags: list[str], early: float, message: str, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises((RecipeError, DataError), match=message):
        proxy.main(["--config", str(recipe), *flags], out=tmp_path / "proxy", early=early)


def test_without_a_model_nothing_is_loaded(recipe: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(recipe.read_text())
    del settings["model_name_or_path"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(RecipeError, match="`--model` must be a model folder or a hub id, got nothing"):
        proxy.main(["--config", str(tmp_path / "recipe.yaml")], out=tmp_path / "proxy")


@pytest.mark.parametrize(("share", "steps", "step"), [(0.1, 100, 10), (0.1, 3, 1), (0.5, 3, 2), (0.99, 200, 198)])
def test_early_is_a_whole_step_and_not_the_first_model(share: float, steps: int, step: int) -> None:
    assert early_step(share, steps) == step


@pytest.mark.parametrize(("share", "steps"), [(0.1, 1), (0.9, 3)])
def test_early_must_come_before_late(share: float, steps: int) -> None:
    with pytest.raises(TrainerError, match="`--early` must leave steps to train after it"):
        early_step(share, steps)


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        campus_tune(["proxy", "--help"])
    assert "campus-tune proxy --config recipe.yaml --out proxy" in capsys.readouterr().out

"""`campus-tune value --config`: real trainings on sets of groups, kills in the middle, what each mistake is told."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml

from campus_tune.cli import value_of_groups as command
from campus_tune.cli.main import main
from campus_tune.compare.training import Bench
from campus_tune.method.shapley import exact
from campus_tune.run.lock import RunLock
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from tests.compare.planted import value_options, value_plan
from tests.compare.tiny_compare import tiny_recipe, write_rows
from tests.json_answers import answer
from tests.run.tiny_run import task_rows

Read = pytest.CaptureFixture[str]


def recipe_of(folder: Path, domains: tuple[str, ...], n: int, **settings: Any) -> Path:
    """A tiny recipe with so many rows of each domain."""
    recipe = tiny_recipe(folder, per_device_train_batch_size=4, **settings)
    rows = [[row for row in task_rows(300, seed=1) if row["domain"] == domain][:n] for domain in domains]
    write_rows(folder / "train.jsonl", [row for part in rows for row in part])
    return recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipe_of(tmp_path_factory.mktemp("value"), ("code", "lists"), 12)


@pytest.fixture(scope="module")
def done(recipe: Path) -> Path:
    """The folder of values that the command made."""
    assert main(["value", "--config", str(recipe), "--seeds", "2"]) == 0
    return recipe.parent / "comparison" / "value"


def found_in(out: Path) -> Json:
    about: Json = json.loads((out / "shapley.json").read_text("utf-8"))
    return about


def losses_of(out: Path, name: str, seed: int) -> tuple[float, float]:
    """(Before, after) of a training, by its own result."""
    curve = json.loads((out / "runs" / name / f"seed-{seed}" / "result.json").read_text("utf-8"))["curve"]
    return curve["loss"][0], curve["loss"][-1]


def test_values_are_those_of_real_trainings(done: Path) -> None:
    about = found_in(done)
    assert about["groups"]["names"] == ["code", "lists"]
    phi = []
    for seed in (0, 1):
        (before, one), (_, two), (_, both) = (losses_of(done, name, seed) for name in ("groups-0", "groups-1", "all"))
        phi.append(exact(-np.array([before, one, two, both])[:, None])[:, 0])
    values = [about["found"]["values"][name]["value"] for name in ("code", "lists")]
    assert values == pytest.approx(np.mean(phi, axis=0), rel=1e-6)
    assert about["found"]["trainings"] == 6
    page = (done / "report.html").read_text("utf-8")
    assert about["found"]["sentences"][0][:50] in page
    assert (done / "plots" / "worth.png").exists()
    assert about["command"].startswith("campus-tune value --config")


def test_the_same_command_trains_nothing_and_says_the_same(
    recipe: Path, done: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(Bench, "make", refuse)
    before = (done / "shapley.json").read_text("utf-8")
    assert main(["value", "--config", str(recipe), "--seeds", "2"]) == 0
    assert (done / "shapley.json").read_text("utf-8") == before
    told = capsys.readouterr().out
    assert "2 groups, 2 seeds, every set of them: 6 trainings, together about as long as 4 on all rows" in told
    assert re.search(r"^code +12 ", told, flags=re.MULTILINE)
    assert "worth to each test domain (* beyond chance)" in told
    assert f"the report: {done / 'report.html'}" in told


def test_its_json_has_the_values_of_the_table(recipe: Path, done: Path, capsys: Read) -> None:
    found = answer(capsys, "value", recipe, "--seeds", "2")
    assert found == {"out": str(done), **found_in(done)}
    assert found["found"]["values"].keys() == {"code", "lists"}


def test_report_makes_the_page_again(done: Path, capsys: Read) -> None:
    (done / "report.html").unlink()
    assert main(["report", str(done)]) == 0
    assert (done / "report.html").exists()
    assert str(done / "report.html") in capsys.readouterr().out


def n_results(out: Path) -> int:
    return sum(1 for _ in out.glob("runs/*/*/result.json"))


@pytest.mark.slow
def test_after_a_sigkill_the_same_command_comes_to_the_same_values(recipe: Path, done: Path, tmp_path: Path) -> None:
    words = ["value", "--config", str(recipe), "--seeds", "2", "--out", str(tmp_path)]
    with subprocess.Popen([sys.executable, "-m", "campus_tune", *words], stdout=subprocess.DEVNULL) as process:
        while n_results(tmp_path) < 2 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/result.json")}
    assert 2 <= len(kept) < 6
    assert found_in(tmp_path)["found"] is None
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert found_in(tmp_path)["found"] == found_in(done)["found"]


@pytest.mark.slow
def test_trainings_side_by_side_come_to_the_same_values(recipe: Path, done: Path, tmp_path: Path) -> None:
    assert main(["value", "--config", str(recipe), "--seeds", "2", "--out", str(tmp_path), "--jobs", "2"]) == 0
    assert found_in(tmp_path)["found"] == found_in(done)["found"]


@pytest.mark.slow
def test_thirds_are_drawn_and_trained_on_their_own_rows(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, ("code", "lists"), 15)
    words = ["--groups", "domain_difficulty", "--trainings", "7", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main(["value", "--config", str(recipe), *words]) == 0
    about = found_in(tmp_path / "out")
    names = ["code easy", "code middle", "code hard", "lists easy", "lists middle", "lists hard"]
    assert about["groups"]["names"] == names
    assert about["groups"]["by"] == "length"  # the recipe's first metric
    assert sum(about["groups"]["sizes"]) == 30
    assert about["found"]["sequences"] == 1
    assert about["found"]["trainings"] == 6
    for path in (tmp_path / "out").glob("runs/groups-*/seed-0/result.json"):
        result = json.loads(path.read_text("utf-8"))
        groups = path.parent.parent.name.split("-")[1:]
        assert result["rows"] == result["only"]["rows"]["n"] == sum(about["groups"]["sizes"][int(g)] for g in groups)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainings", "2", "--seeds", "1"], "`--trainings` must be at least 3 for 2 groups with 1 seed(s), "),
        (["--domain-column", "nowhere"], "`--domain-column` must be a column of the training set (id, domain,"),
        (["--difficulty", "length"], "`--difficulty` must go with --groups domain_difficulty, got it with --groups"),
        (["--per_device_train_batch_size", "16"], "each group must have the 16 rows of one optimizer step"),
        (["--model", "{proxy}"], "`--model` must be a model, got {proxy}, the folder of a proxy. Write --model"),
        (["--seed", "3"], "`--seed` belongs to a single run"),
        (["--learning_rte", "3"], "Did you mean 'learning_rate'"),
        (["--seeds", "1", "1"], "`compare: seeds` must be different, got 1 twice"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_trained(
    recipe: Path, tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    (tmp_path / "proxy" / "early").mkdir(parents=True)
    monkeypatch.setattr(Bench, "make", lambda *_: pytest.fail("trained"))
    proxy = str(tmp_path / "proxy")
    given = [word.replace("{proxy}", proxy) for word in words]
    assert main(["value", "--config", str(recipe), "--out", str(tmp_path / "out"), *given]) == 2
    assert message.replace("{proxy}", proxy) in capsys.readouterr().err


def test_rows_in_another_sequence_with_each_seed_have_no_thirds(recipe: Path, tmp_path: Path) -> None:
    words = ["--groups", "domain_difficulty", "--shuffle_dataset", "true", "--out", str(tmp_path)]
    options = value_options(recipe, *words)
    with pytest.raises(RecipeError, match="`shuffle_dataset` must be false where groups are numbers of rows, got true"):
        command.thirds_of(
            options, command.read_yaml_and_flags(options), value_plan(recipe, *words), "domain", shuffled=True
        )


def test_no_test_rows_are_told(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    content = yaml.safe_load(recipe.read_text("utf-8"))
    del content["compare"]
    recipe.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match="`compare: test` must be a file of held-out rows"):
        value_plan(recipe)
    assert value_plan(recipe, "--test", str(tmp_path / "test.jsonl")).settings.test == (str(tmp_path / "test.jsonl"),)


def test_one_domain_is_no_question(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, ("code",), 12)
    with pytest.raises(RecipeError, match="`--groups` must make from 2 to 16 groups, got 1"):
        command.value_of_groups(value_options(recipe, "--seeds", "1"))


def test_a_second_command_in_the_same_folder_is_refused(recipe: Path, tmp_path: Path, capsys: Read) -> None:
    lock = RunLock(tmp_path, what="--out")
    lock.take()
    assert main(["value", "--config", str(recipe), "--out", str(tmp_path)]) == 2
    assert "`--out` must be used by one run at a time" in capsys.readouterr().err
    lock.release()


def test_ctrl_c_says_what_is_kept(recipe: Path, done: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "read_test", interrupt)
        assert main(["value", "--config", str(recipe), "--seeds", "2"]) == 130
    assert f"interrupted: 6 trainings are finished and kept in {done}. The same command goes on." in (
        capsys.readouterr().out
    )
    monkeypatch.setattr(command, "plan_of_value", interrupt)
    assert main(["value", "--config", str(recipe)]) == 130
    assert "interrupted: nothing was begun." in capsys.readouterr().out


def test_fewer_seeds_where_every_set_is_trained() -> None:
    def design(n: int, trainings: int | None, *, given: bool = False) -> Any:
        return command.design_of(n, (0, 1, 2, 3, 4), trainings, given=given)

    assert design(3, None).seeds == (0, 1, 2)
    assert design(3, None, given=True).seeds == (0, 1, 2, 3, 4)
    assert design(8, None).seeds == (0, 1, 2, 3, 4)
    assert design(5, 60).seeds == (0, 1, 2, 3, 4)
    assert design(5, 8).seeds == (0, 1, 2)
    assert design(5, 93).is_exact

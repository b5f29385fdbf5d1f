"""`compare: proxy`: a proxy and the trained model are asked of the same rows, and the run stays the run that it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from campus_tune.cli import proxy as proxy_command
from campus_tune.cli import sft
from campus_tune.cli.main import main
from campus_tune.compare import proxy_agreement
from campus_tune.compare.proxy_scores import ProxyScores, looked_up, read_proxy
from campus_tune.compare.recorder import Recorder
from campus_tune.compare.training_row_losses import FILE, LEAST, MOST, TrainingRowLosses, chosen, read_run_rows
from campus_tune.compare.verdict import Verdict
from campus_tune.data.held_out import read_held_out
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.report.compare_facts import read_comparison
from campus_tune.report.compare_page import compare_content
from campus_tune.run.value_table import VALUES
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.scores.dropping import shape_of
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.hashing import hex_keys
from campus_tune.words.types import Json
from tests.compare.tiny_compare import plan_of, result_of, timeless, tiny_recipe, write_rows
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, assert_close


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transfer")


@pytest.fixture(scope="module")
def made(home: Path) -> Path:
    """A proxy: another tiny model, trained on the same rows."""
    from campus_tune.demo.tiny import write_tiny

    recipe = tiny_recipe(home)
    write_tiny(home / "small", hidden=8, layers=1, seed=4)
    proxy_command.main(["--config", str(recipe)], out=home / "proxy", early=0.34, model=str(home / "small"))
    return home / "proxy"


@pytest.fixture(scope="module")
def done(home: Path, made: Path) -> Path:
    """A comparison that was asked about it."""
    recipe = tiny_recipe(home, compare={"proxy": str(made), "arms": ["recipe", "random"]})
    assert main(["compare", "--config", str(recipe), "--out", str(home / "asked")]) == 0
    return home / "asked"


@pytest.fixture(scope="module")
def verdict(done: Path) -> Json:
    found: Json = json.loads((done / "verdict.json").read_text())
    return found


def rows_of(done: Path, seed: int = 0) -> Any:
    found = read_run_rows(done / "runs" / "random" / f"seed-{seed}", 0.34)
    assert found is not None
    return found


def test_the_numbers_are_those_of_a_slow_reference_from_the_files(done: Path, made: Path, verdict: Json) -> None:
    kept, _ = read_columns(made / "losses.parquet")
    mine, _ = read_columns(done / "runs" / "random" / "seed-0" / FILE)
    loss = {int(k): n / t for k, n, t in zip(kept["key"], kept["start_nll_sum"], kept["start_tokens"], strict=True)}
    early, late = (
        {int(k): n / t for k, n, t in zip(kept["key"], kept[f"{w}_nll_sum"], kept[f"{w}_tokens"], strict=True)}
        for w in ("early", "late")
    )
    keys = [int(key) for key in mine["key"]]
    assert sorted(keys) == sorted(loss)
    told = verdict["proxy"]["scores"]
    ours = mine["start_nll_sum"] / mine["start_tokens"]
    assert told["loss"]["overall"]["value"] == pytest.approx(spearmanr(ours, [loss[key] for key in keys])[0])
    ours = mine["early_nll_sum"] / mine["early_tokens"] - mine["late_nll_sum"] / mine["late_tokens"]
    theirs = [early[key] - late[key] for key in keys]
    assert told["learnability"]["overall"]["value"] == pytest.approx(spearmanr(ours, theirs)[0])
    again = {
        int(key): score
        for key, score in zip(rows_of(done, 1).keys, rows_of(done, 1).scores["learnability"], strict=True)
    }
    assert told["learnability"]["ceiling"] == pytest.approx(spearmanr(ours, [again[key] for key in keys])[0])
    assert told["loss"]["ceiling"] == pytest.approx(1.0)  # no seed has trained anything before training


def test_losses_before_and_after_are_those_of_a_slow_reference(tmp_path: Path) -> None:
    held = read_held_out([write_rows(tmp_path / "test.jsonl", task_rows(30, seed=5))])

    class Slow(TrainingRowLosses):
        def begin(self, trainer: Any, run: Any) -> None:
            shape, end = shape_of(trainer)
            self.proxy.keys[:] = SaidHashes.read(
                trainer.train_dataset, shape, run.situation.loaded.rows.content, end=end
            ).keys
            super().begin(trainer, run)
            slow["start"] = all_slow_losses(trainer, self.rows.tolist())

    slow: dict[str, Any] = {}
    asked = Slow(ProxyScores("", "", np.zeros(32, dtype=np.uint64), {}, {}, 0.5))
    recorder = Recorder(held, 2, training_rows=asked)
    trainer = tiny_trainer(
        tmp_path / "run",
        config={"metrics": ["length"], "stages": 2},
        callbacks=[recorder],
        n=32,
        per_device_train_batch_size=8,
    )
    recorder.follow(trainer, next(one.run for one in trainer.callback_handler.callbacks if hasattr(one, "begun")))
    trainer.train()
    assert set(asked.losses) == {"start", "early", "late"}
    assert_close(asked.losses["start"], slow["start"])
    assert_close(asked.losses["late"], all_slow_losses(trainer, asked.rows.tolist()))
    late = asked.losses.pop("late")
    asked.write(tmp_path)  # as if the run had been ended before its last step
    assert read_run_rows(tmp_path, 0.5) is None
    asked.losses["late"] = late
    asked.write(tmp_path)
    found = read_run_rows(tmp_path, 0.5)
    assert found is not None
    fall = asked.losses["early"].per_row() - asked.losses["late"].per_row()
    np.testing.assert_allclose(found.scores["learnability"], fall)
    np.testing.assert_allclose(found.scores["loss"], asked.losses["start"].per_row())


def test_a_run_is_the_same_run_whether_a_proxy_is_asked_about_or_not(done: Path, home: Path) -> None:
    recipe = tiny_recipe(home)
    assert main(["compare", "--config", str(recipe), "--out", str(home / "plain")]) == 0
    for arm in ("random", "recipe"):
        for seed in (0, 1):
            asked, plain = (timeless(result_of(out, arm, seed)) for out in (done, home / "plain"))
            del asked["campus"]["scores"], plain["campus"]["scores"]  # of either comparison's own folder
            assert json.dumps(asked, sort_keys=True) == json.dumps(plain, sort_keys=True)
    assert "proxy" not in json.loads((home / "plain" / "verdict.json").read_text())
    assert not list((home / "plain").rglob(FILE))
    assert "Could a proxy" not in (home / "plain" / "report.html").read_text()


def test_only_two_runs_of_plain_shuffling_are_asked(done: Path) -> None:
    assert sorted(path.parent.relative_to(done / "runs").as_posix() for path in done.rglob(FILE)) == [
        "random/seed-0",
        "random/seed-1",
    ]


def test_it_is_told_on_the_console_in_the_file_and_on_the_page(
    done: Path, home: Path, verdict: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "compare",
                "--config",
                str(home / "recipe.yaml"),
                "--out",
                str(done),
                "--compare.proxy",
                str(home / "proxy"),
            ]
        )
        == 0
    )
    told = capsys.readouterr().out
    assert "4 of 4 runs are there already" in told
    page = (done / "report.html").read_text()
    for one in verdict["proxy"]["scores"].values():
        assert f"PROXY. {one['sentence']}" in told
        assert one["sentence"][1:40] in page
    assert verdict["proxy"]["model"] == str(home / "small")
    assert Verdict.from_mapping(verdict).to_mapping()["proxy"] == verdict["proxy"]
    content = compare_content(read_comparison(done), [])
    assert content["proxy"].rows[0][0].text == "loss"
    assert len(content["proxy"].rows) >= 2


def test_a_comparison_that_was_made_without_it_says_which_folder_to_delete(done: Path, home: Path) -> None:
    shutil.copytree(done, home / "older")
    for path in (home / "older").rglob(FILE):
        path.unlink()
    words = ["--out", str(home / "older"), "--compare.proxy", str(home / "proxy")]
    told = proxy_agreement.of_comparison(plan_of(home / "recipe.yaml", *words))
    assert told is not None
    (why,) = told["notes"]
    assert "No training rows were measured" in why
    assert told["scores"] == {}
    # the advice is followed
    shutil.rmtree(home / "older" / "runs" / "random" / "seed-0")
    assert main(["compare", "--config", str(home / "recipe.yaml"), *words]) == 0
    again = json.loads((home / "older" / "verdict.json").read_text())["proxy"]
    assert (
        again["scores"]["loss"]["overall"]
        == json.loads((done / "verdict.json").read_text())["proxy"]["scores"]["loss"]["overall"]
    )
    assert again["notes"] == ["What a perfect proxy would reach is not known from one seed of plain shuffling."]


def test_a_finished_run_can_be_the_proxy(home: Path, made: Path) -> None:
    del made
    recipe = tiny_recipe(home, num_train_epochs=2, output_dir=str(home / "run"))
    sft.main(["--config", str(recipe)])
    found = read_proxy(str(home / "run"))
    assert found.early is None
    assert set(found.scores) == {"loss", "learnability"}
    assert found.basis["loss"] == "before training"  # the recipe's own metric has asked for it
    columns, _ = read_columns(home / "run" / "curriculum" / "book" / "map.parquet")
    fall = {
        int(key, 16): a - b
        for key, a, b in zip(columns["key"], columns["first_loss"], columns["last_loss"], strict=True)
    }
    for key, score in zip(found.keys.tolist(), found.scores["learnability"].tolist(), strict=True):
        assert score == pytest.approx(fall[key], abs=1e-6)
    assert read_proxy(str(home / "run" / "curriculum")).scores["loss"].tolist() == found.scores["loss"].tolist()
    tiny_recipe(home)


def leave_values(home: Path, keys: Any, values: Any, *, split_half: float | None = 0.8) -> None:
    """A table of values as a run leaves it, as far as it is read."""
    (home / "value").mkdir(exist_ok=True)
    columns = {"key": pa.array(hex_keys(keys)), "value": pa.array(values, mask=np.isnan(values))}
    domain = pa.array(["even" if key % 2 == 0 else "odd" for key in keys.tolist()])
    write_columns(home / VALUES, {**columns, "domain": domain}, {"split_half": {"all": {"value": split_half}}})


def test_values_are_compared_where_both_have_them(done: Path, home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**63, 200).astype(np.uint64)
    truth, late = rng.normal(size=200), rng.permutation(200)
    mine, again, theirs = (truth + 0.3 * rng.normal(size=200) for _ in range(3))
    mine[:5], theirs[5:9] = np.nan, np.nan  # rows that were not measured
    shutil.copytree(done, tmp_path / "out")
    (tmp_path / "run" / "curriculum" / "book").mkdir(parents=True)
    shutil.copy(run_with_map(home), tmp_path / "run" / "curriculum" / "book" / "map.parquet")
    columns, about = read_columns(tmp_path / "run" / "curriculum" / "book" / "map.parquet")
    rows = np.arange(len(keys)) % len(columns["key"])
    columns = {name: values[rows] for name, values in columns.items()} | {"key": pa.array(hex_keys(keys))}
    write_columns(tmp_path / "run" / "curriculum" / "book" / "map.parquet", columns, about)
    leave_values(tmp_path / "run" / "curriculum", keys[late], theirs[late])
    words = ["--out", str(tmp_path / "out"), "--compare.proxy", str(tmp_path / "run")]
    plan = plan_of(home / "recipe.yaml", *words)
    told = proxy_agreement.of_comparison(plan)
    assert told is not None
    assert any("no run here measured any: write `value: true`" in note for note in told["notes"])
    for seed, values in enumerate((mine, again)):
        leave_values(
            tmp_path / "out" / "runs" / "recipe" / f"seed-{seed}" / "curriculum", keys, values, split_half=None
        )
    told = proxy_agreement.of_comparison(plan)
    assert told is not None
    found = told["scores"]["value"]
    both = np.isfinite(mine) & np.isfinite(theirs)
    assert found["overall"]["value"] == pytest.approx(spearmanr(mine[both], theirs[both])[0])
    assert found["overall"]["n"] == both.sum() == 191
    inside = [(spearmanr(again[of], mine[of])[0], of.sum()) for p in (0, 1) for of in (both & (keys % 2 == p),)]
    assert found["ceiling"] == pytest.approx(np.average([r for r, _ in inside], weights=[n for _, n in inside]))
    assert set(found["domains"]) == {"even", "odd"}
    assert (
        "agree well on the rows (0.80); here, by recipe, the halves of the probes cannot be compared" in found["basis"]
    )
    assert found["word"] == "serves"


def run_with_map(home: Path) -> Path:
    """The map of some finished run."""
    return next((home / "asked" / "runs").rglob("map.parquet"))


def test_a_folder_that_is_no_proxy_is_refused_before_anything_is_trained(home: Path) -> None:
    (home / "nothing").mkdir(exist_ok=True)
    out = home / "refused"
    with pytest.raises(RecipeError, match=r"must be a folder that campus-tune proxy has made, .* got '.*nothing'"):
        run(home, out, home / "nothing")
    assert not out.exists() or not list(out.rglob("result.json"))


def run(home: Path, out: Path, proxy: Path) -> None:
    from campus_tune.cli.compare import main as compare
    from tests.compare.tiny_compare import options

    compare(options(home / "recipe.yaml", "--out", str(out), "--compare.proxy", str(proxy)))


def test_a_proxy_of_an_earlier_version_is_refused_and_says_what_to_do(made: Path, home: Path) -> None:
    shutil.copytree(made, home / "old", dirs_exist_ok=True)
    columns, _ = read_columns(made / "losses.parquet")
    del columns["key"]
    write_columns(home / "old" / "losses.parquet", columns, {})
    with pytest.raises(RecipeError, match=r"must say which rows its losses are of, .* run campus-tune proxy again"):
        read_proxy(str(home / "old"))
    for name in ("proxy.json", "losses.parquet"):
        (home / "old" / name).unlink()
    for name in ("early", "late", "training"):
        shutil.rmtree(home / "old" / name)
    proxy_command.main(["--config", str(home / "recipe.yaml")], out=home / "old", early=0.34, model=str(home / "small"))
    assert read_proxy(str(home / "old")).scores["loss"].tolist() == read_proxy(str(made)).scores["loss"].tolist()


def test_a_damaged_proxy_is_refused_by_name(made: Path, home: Path) -> None:
    shutil.copytree(made, home / "damaged", dirs_exist_ok=True)
    path = home / "damaged" / "losses.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecipeError, match="`compare: proxy` must be a folder that can be read"):
        read_proxy(str(home / "damaged"))


def test_a_proxy_of_other_rows_is_refused(home: Path, made: Path) -> None:
    shutil.copytree(made, home / "others", dirs_exist_ok=True)
    columns, _ = read_columns(made / "losses.parquet")
    columns["key"] = columns["key"] + np.uint64(1)
    write_columns(home / "others" / "losses.parquet", columns, {})
    with pytest.raises(Exception, match="must know at least 30 of the training rows, got 0 of 48"):
        run(home, home / "of-others", home / "others")


def test_a_damaged_file_of_a_run_is_named(done: Path, home: Path) -> None:
    folder = home / "broken"
    folder.mkdir()
    columns, about = read_columns(done / "runs" / "random" / "seed-0" / FILE)
    del columns["late_nll_sum"]
    write_columns(folder / FILE, columns, about)
    with pytest.raises(DataError, match=f"{FILE}` must hold losses of training rows, got KeyError"):
        read_run_rows(folder, 0.34)
    plan = plan_of(home / "recipe.yaml", "--out", str(home / "lost"), "--compare.proxy", str(home / "is-gone"))
    told = proxy_agreement.of_comparison(plan)  # the verdict on the arms does not hang on it
    assert told is not None
    assert "must be a folder that campus-tune proxy has made" in told["notes"][0]
    assert read_run_rows(done / "runs" / "random" / "seed-0", 0.5) is None  # of another proxy, early at another step


def test_a_proxy_of_another_tokenizer_is_joined_by_what_rows_say(done: Path, made: Path) -> None:
    columns, _ = read_columns(made / "losses.parquet")
    mine, _ = read_columns(done / "runs" / "random" / "seed-0" / FILE)
    assert set(columns["key"].tolist()) == set(mine["key"].tolist())
    assert set(columns["content"].tolist()).isdisjoint(mine["key"].tolist())  # no hash of tokens


def test_each_domain_has_its_rows_and_the_choice_hangs_on_what_they_say() -> None:
    rng = np.random.default_rng(0)
    keys, domains = rng.integers(0, 2**63, 9000).astype(np.uint64), np.repeat([0, 1, 2], [8000, 960, 40])
    places = chosen(keys, domains)
    sizes = np.bincount(domains[places]).tolist()
    assert sizes == [round(MOST * 8000 / 9000), round(MOST * 960 / 9000), 40]
    assert LEAST > 40
    mixed = rng.permutation(9000)
    assert set(keys[places].tolist()) == set(keys[mixed][chosen(keys[mixed], domains[mixed])].tolist())
    assert chosen(keys[:50], domains[:50]).tolist() == list(range(50))


def test_values_are_looked_up_by_key() -> None:
    known = np.array([5, 9, 2], dtype=np.uint64)
    found = looked_up(known, np.array([1.0, 2.0, 3.0]), np.array([2, 7, 9, 99], dtype=np.uint64))
    np.testing.assert_array_equal(found, [3.0, np.nan, 2.0, np.nan])
    assert np.isnan(looked_up(np.zeros(0, dtype=np.uint64), np.zeros(0), known)).all()


def test_rows_that_say_the_same_are_asked_once(home: Path, made: Path, tmp_path: Path) -> None:
    del home
    rows = task_rows(40, seed=1)
    recipe = tiny_recipe(tmp_path, compare={"proxy": str(tmp_path / "twice"), "seeds": 1, "arms": ["recipe", "random"]})
    write_rows(tmp_path / "train.jsonl", [*rows, *rows[:8]])
    proxy_command.main(["--config", str(recipe)], out=tmp_path / "twice", early=0.34)
    assert len(read_proxy(str(tmp_path / "twice")).keys) == len({json.dumps(row) for row in rows})
    assert main(["compare", "--config", str(recipe), "--pilot"]) == 0
    found = read_run_rows(tmp_path / "comparison" / "runs" / "random" / "seed-0", 0.34)
    assert found is not None
    assert len(np.unique(found.keys)) == len(found.keys) == len({json.dumps(row) for row in rows})
    assert made.exists()

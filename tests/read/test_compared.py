"""A comparison as a function and its result: against the files that it leaves, the command beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import campus_tune
from campus_tune import ComparisonResult, open_comparison, run_comparison
from campus_tune.cli.main import main
from campus_tune.compare.training import Bench
from campus_tune.compare.verdict import Verdict
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import Json
from tests.compare.tiny_compare import result_of, tiny_recipe
from tests.libraries import CHECKPOINTING
from tests.report.made_up import make_comparison, make_verdict

Read = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """As a mapping."""
    content: Json = yaml.safe_load(tiny_recipe(tmp_path_factory.mktemp("compared")).read_text())
    return content


@pytest.fixture(scope="module")
def result(recipe: Json, tmp_path_factory: pytest.TempPathFactory) -> ComparisonResult:
    """Two arms, two seeds, trained."""
    return run_comparison(recipe, out=tmp_path_factory.mktemp("made") / "comparison", quiet=True)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "make", lambda *_: pytest.fail("a run was made again"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three arms that nobody trained, one of whose runs diverged."""
    folder = make_comparison(tmp_path_factory.mktemp("comparisons") / "one", diverged=("reversed", 1))
    make_verdict(folder)
    return folder


# -- the function --------------------------------------------------------------------------------------------------


def test_it_trains_the_arms_and_gives_the_verdict(result: ComparisonResult) -> None:
    assert result.finished
    assert isinstance(result.verdict, Verdict)
    assert result.words.keys() == {"recipe"}
    assert sorted(zip(result.runs.arm, result.runs.seed, strict=True)) == [
        (arm, seed) for arm in ("random", "recipe") for seed in (0, 1)
    ]
    assert result.page == result.folder / "report.html"


@pytest.mark.usefixtures("untrained")
def test_the_same_call_trains_nothing_and_gives_the_same(recipe: Json, result: ComparisonResult, capsys: Read) -> None:
    again = run_comparison(recipe, out=result.folder, seeds=[0, 1], arms=["recipe", "random"])
    told = capsys.readouterr().out
    assert "4 of 4 runs are there already and are kept" in told
    assert "VERDICT" not in told  # it is what the call gives back
    assert again.table.equals(result.table)
    assert str(again) == str(result)
    assert open_comparison(str(result.folder)).sentences == result.sentences


def test_a_recipe_that_is_a_mapping_is_kept_with_its_comparison(recipe: Json, result: ComparisonResult) -> None:
    kept = result.folder / "recipe.yaml"
    assert yaml.safe_load(kept.read_text()) == recipe
    command = json.loads((result.folder / "compare.json").read_text())["command"]
    assert command.startswith(f"campus-tune compare --config {kept}")


@pytest.mark.usefixtures("untrained")
def test_the_command_prints_what_the_function_gives(result: ComparisonResult, capsys: Read) -> None:
    words = ["compare", "--config", str(result.folder / "recipe.yaml"), "--out", str(result.folder)]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(f"{result}\n")
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert "runs are there already" in said.err
    document = json.loads(said.out)
    assert document == json.loads(json.dumps(result.to_mapping()))
    assert document["verdict"] == json.loads((result.folder / "verdict.json").read_text())
    for arm in document["arms"]:  # every number of the table that the text shows
        assert f"{arm['loss']:.4f}" in str(result)
    assert all(sentence in str(result) for sentence in document["sentences"])


@pytest.mark.usefixtures("untrained")
def test_quiet_leaves_warnings_and_the_verdict(result: ComparisonResult, capsys: Read) -> None:
    words = ["compare", "--config", str(result.folder / "recipe.yaml"), "--out", str(result.folder), "--quiet"]
    assert main(words) == 0
    before, _, after = capsys.readouterr().out.partition("\nVERDICT")
    assert f"\nVERDICT{after}" == f"{result}\n"
    assert [line for line in before.splitlines() if not line.startswith("warning: ")] == []


@pytest.mark.usefixtures("untrained")
def test_libraries_warn_nobody_of_what_is_theirs(recipe: Json, result: ComparisonResult) -> None:
    usual = {name: value for name, value in recipe.items() if name != CHECKPOINTING}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        # transformers calls deprecated what TRL's documentation names; the comparison is another one then
        with pytest.raises(RecipeError, match="--out"):
            run_comparison(usual | {"gradient_checkpointing": True}, out=result.folder, quiet=True)
    assert [one for one in told if issubclass(one.category, FutureWarning)] == []


def test_a_pilot_has_runs_and_no_verdict(recipe: Json, tmp_path: Path, capsys: Read) -> None:
    pilot = run_comparison(recipe, out=tmp_path, seeds=1, pilot=True)
    assert "one seed cannot tell a recipe from luck" in capsys.readouterr().out
    assert pilot.verdict is None
    assert (pilot.words, pilot.sentences, str(pilot)) == ({}, [], "")
    assert pilot.runs.arm.tolist() == ["random"]
    assert "no verdict yet: 1 of 2 runs are there" in repr(pilot)


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"campus": None}, {}, "`campus` must be a block"),
        ({}, {"arms": ["recipe"]}, "`compare: arms` must have 'random'"),
        ({}, {"flags": ["--learning_rte", "1"]}, "Did you mean 'learning_rate'"),
        ({}, {"seeds": 0}, "`compare: seeds` must be how many"),
        ({}, {"jobs": 0}, "`compare: jobs` must be"),
        ({}, {"test": "none.jsonl"}, "none.jsonl"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    recipe: Json, tmp_path: Path, change: Json, given: dict[str, Any], message: str
) -> None:
    with pytest.raises((RecipeError, DataError), match=message):
        run_comparison(recipe | change, out=tmp_path, **given)
    assert not (tmp_path / "recipe.yaml").exists()


def test_another_comparisons_folder_keeps_its_recipe(recipe: Json, result: ComparisonResult) -> None:
    before = (result.folder / "recipe.yaml").read_text()
    with pytest.raises(RecipeError, match="must be a new folder or that of the same comparison"):
        run_comparison(recipe | {"learning_rate": 0.5}, out=result.folder)
    assert (result.folder / "recipe.yaml").read_text() == before


# -- the result ----------------------------------------------------------------------------------------------------


def test_runs_and_curves_are_those_of_the_files(result: ComparisonResult) -> None:
    for _, run in result.runs.iterrows():
        there = result_of(result.folder, run.arm, run.seed)
        assert run.loss == pytest.approx(sum(there["test"]["loss"]) / sum(there["test"]["tokens"]))
        assert (run.tokens, run.cost, run.status) == (there["tokens"], there["cost"]["all"], "finished")
        curve = result.curves[(result.curves.arm == run.arm) & (result.curves.seed == run.seed)]
        assert curve.loss.tolist() == there["curve"]["loss"]
        assert Path(run.folder).is_dir()


def test_the_table_is_what_was_judged(result: ComparisonResult) -> None:
    assert result.verdict is not None
    judged, table = result.verdict.judgements["recipe"].difference, result.table.set_index("arm")
    assert judged is not None
    assert table.difference["recipe"] == judged.relative
    assert table.low["recipe"] <= table.difference["recipe"] <= table.high["recipe"]
    assert table.p["recipe"] == judged.p_adjusted
    assert table.loss["recipe"] == pytest.approx(result.runs[result.runs.arm == "recipe"].loss.mean())
    assert table.seeds.tolist() == [2, 2]
    assert str(table.p.dtype) == "float64"


def test_one_of_its_runs_is_opened(result: ComparisonResult) -> None:
    run = result.run("recipe", 1)
    assert run.finished
    assert len(run.decisions) == 3
    with pytest.raises(DataError, match="`run` must be a folder"):
        result.run("recipe", 7)


def test_a_run_that_diverged_is_a_line_without_a_loss(made: Path) -> None:
    found = open_comparison(made)
    lost = found.runs[found.runs.status == "diverged"]
    assert lost.arm.tolist() == ["reversed"]
    assert lost.loss.isna().all()
    assert found.table.set_index("arm").seeds["reversed"] == found.table.seeds.max() - 1


def test_a_notebook_shows_the_verdict_and_a_small_table(made: Path, result: ComparisonResult) -> None:
    for one in (open_comparison(made), result):
        shown = one._repr_html_()
        assert shown.count("<tr>") == 1 + len(one.table)
        assert all(f'<td style="text-align:left">{arm}</td>' in shown for arm in one.table.arm)
        assert repr(one).startswith(f"comparison {one.folder}\n")


def test_pictures_are_those_of_the_page(made: Path) -> None:
    from matplotlib.figure import Figure

    found = open_comparison(made)
    assert isinstance(found.plot(), Figure)
    assert found.plot("costs").axes
    with pytest.raises(DataError, match=r"got 'curve'\. Did you mean 'curves'\? Take one of curves,"):
        found.plot("curve")


def test_the_page_is_written_and_shown(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path, out: Path) -> Path:
        out.write_text(f"<p>{folder.name}</p>")
        return out

    monkeypatch.setattr("campus_tune.report.write.write_report", write)
    assert "&lt;p&gt;one&lt;/p&gt;" in open_comparison(made).report(tmp_path / "page.html")._repr_html_()


def test_no_comparison_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a folder with compare\.json"):
        open_comparison(tmp_path)


# -- the door ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", campus_tune.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found: Callable[..., object] = getattr(campus_tune, name)
    assert found.__doc__
    assert name in dir(campus_tune)

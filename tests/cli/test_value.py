"""`campus-tune value RUN`: what rows were worth in a run that is over, and what each mistake is told."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from campus_tune.cli.main import main
from tests.json_answers import answer
from tests.report.made_up import make_run
from tests.report.made_up_value import made_values, make_value

Read = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = make_run(tmp_path_factory.mktemp("values") / "run", stages=2)
    make_value(out, made_values(("math", "code", "text")))
    return out


def test_the_values_of_a_run_are_shown(run: Path, capsys: Read) -> None:
    assert main(["value", str(run)]) == 0
    told = capsys.readouterr().out
    assert "rows harm the probes" in told
    assert "What a trained row of each domain did to each probe domain" in told
    assert main(["value", str(run), "--top", "1"]) == 0
    assert len(capsys.readouterr().out) < len(told)


def test_their_json_has_the_numbers_in_full(run: Path, capsys: Read) -> None:
    main(["value", str(run), "--top", "2"])
    told = capsys.readouterr().out
    found = answer(capsys, "value", run, "--top", "2")
    assert len(found["helpful"]) == len(found["harmful"]) == 2
    for row in found["helpful"]:
        assert f"{row['value']:.2g}" in told
    assert f"{found['split_half']['all']['value']:.2f}" in told
    assert found["transfer"]["columns"]


def test_a_run_without_values_is_told(tmp_path: Path, capsys: Read) -> None:
    out = make_run(tmp_path / "run", stages=2)
    assert main(["value", str(out)]) == 2
    assert "must be a run that measured values, got one that did not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "--groups", "domain"], "`--groups` must go with --config, got it with RUN. Leave it out"),
        (["RUN", "--shuffle"], "`--shuffle` must go with --config"),
        (["--config", "r.yaml", "--top", "3"], "`--top` must go with RUN, got it with --config. Leave it out."),
        (["RUN", "--learning_rate", "3"], "`value RUN` must have no flags of TRL's, got --learning_rate. Remove it"),
        ([], "`value` must have one RUN, the output_dir of a run, or --config with a recipe, got none. Name one."),
        (["a", "b"], "got 2: a, b. Name one."),
    ],
)
def test_flags_of_the_other_form_are_refused(words: list[str], message: str, capsys: Read) -> None:
    assert main(["value", *words]) == 2
    assert message in capsys.readouterr().err


def test_help_shows_both_forms(capsys: Read) -> None:
    with suppress(SystemExit):
        main(["value", "--help"])
    told = capsys.readouterr().out
    assert "campus-tune value runs/first" in told
    assert "campus-tune value --config recipe.yaml --groups domain" in told

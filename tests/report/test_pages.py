from __future__ import annotations

import argparse
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.cli.report import add_parser
from campus_tune.report import write
from campus_tune.report.compare_facts import read_comparison
from campus_tune.report.compare_page import domain_speeds, readings, runs
from campus_tune.report.compare_plots import _pooled
from campus_tune.report.figures import chosen_shares, faces_of, strip
from campus_tune.report.forest_plot import forest
from campus_tune.report.html_tables import FOLDED
from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import run_content
from campus_tune.report.run_plots import choices_text, competence, run_pictures
from campus_tune.report.score_plots import of_mean
from campus_tune.report.write import pngs, watch, write_report
from campus_tune.words.errors import DataError
from tests.report import made_up
from tests.report.made_up import ARMS, DOMAINS, EVIL, METRICS, make_comparison, make_run, make_verdict

LOADS = {"src", "srcset", "href", "poster", "data", "action"}  # attributes that make a browser ask for something


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def scripts(self) -> list[dict[str, str | None]]:
        """Those that a browser runs."""
        return [script for script in self.all("script") if script.get("type") != "application/json"]

    def alts(self) -> list[str]:
        """What each picture says to those who do not see it, the wide and the narrow one."""
        return [str(svg["aria-label"]) for svg in self.all("svg") if svg["role"] == "img"]


@pytest.fixture(scope="module", params=["run", "comparison"])
def page(request: pytest.FixtureRequest, run_page: Path, comparison: Path) -> Page:
    file = run_page if request.param == "run" else comparison / "report.html"
    return Page(file.read_text("utf-8"))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is tested elsewhere and takes seconds."""
    monkeypatch.setattr(write, "run_pictures", lambda _: [])
    monkeypatch.setattr("campus_tune.report.compare_plots.compare_pictures", lambda _: [])


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in LOADS & set(attributes):
            inside = ("data:", "#")  # the page itself
            assert (attributes[name] or "").startswith(inside), f"<{tag} {name}>"
    assert not page.all("iframe")
    (policy,) = [meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy["content"]).startswith("default-src 'none'")


def test_every_picture_says_in_numbers_what_is_seen(page: Page) -> None:
    alts = page.alts()
    assert len(alts) >= 6
    for alt in alts:
        assert re.search(r"\d", alt), alt
        assert alt.endswith(".")


def test_text_from_the_data_stays_text(page: Page) -> None:
    assert EVIL in page.text
    assert len(page.scripts()) == 1
    assert not page.all("img")


def test_the_page_has_a_language_a_title_and_scopes_of_its_heads(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title")
    assert all(head["scope"] == "col" for head in page.all("th"))
    assert len(page.all("h1")) == 1


def test_a_runs_page_begins_with_the_run_in_a_sentence(run_page: Path) -> None:
    text = run_page.read_text("utf-8")
    assert (
        "48 rows were trained in 6 stages over 12 steps; the curriculum cost 4.0% of the training compute, within its "
        "budget of 5.0%. Order audit: all 12 steps trained the planned rows, tokens and labels." in text
    )


def test_a_runs_page_says_what_padding_it_had_and_what_a_random_draw_would_have_had(run_page: Path) -> None:
    padding = "<dt>Padding</dt><dd>17%<small>49% if drawn at random</small></dd>"
    assert padding in run_page.read_text("utf-8")


def test_alt_texts_hold_the_first_and_the_last_number(run_page: Path) -> None:
    alts = Page(run_page.read_text("utf-8")).alts()
    assert any("Competence of arithmetic rose from 0.20 to 0.53" in alt for alt in alts)
    assert any("cost 4.0% of the training compute against a budget of 5.0%" in alt for alt in alts)
    assert "gsm8k exact_match 0.250 at step 4, 0.500 at 12." in alts
    assert any("4 ranks trained 1,000 to 1,003 tokens each" in alt for alt in alts)


def test_the_pictures_lie_beside_the_page(run_page: Path, comparison: Path) -> None:
    names = "choices competence correlations cost data_map evaluations lr_mass pacing ranks scores training_loss"
    assert list(pngs(run_page)) == names.split()
    assert list(pngs(comparison / "report.html")) == [
        "calibration", "choices", "costs", "curves", "domain_curves", "forest", "lr_mass",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs(run_page).values())


def test_a_page_of_a_thousand_stages_stays_small_and_folds_its_table(long_page: Path) -> None:
    assert long_page.stat().st_size < 3e6
    text = long_page.read_text("utf-8")
    assert "(1000 rows)</summary>" in text
    assert FOLDED < 1000
    assert '<details class="long">' in text


def test_the_choices_are_told_in_words(tmp_path: Path) -> None:
    facts = read_run(make_run(tmp_path / "run"))
    text = choices_text(facts, ["length"])
    assert text.startswith("6 stages over 12 steps. Times chosen: length 2, mtld 1, loss 1, shuffle 2.")
    assert "length offered perplexity 20.1 at step 0, 12.2 at step 6." in text


def test_the_comparison_says_its_verdict_first(comparison: Path) -> None:
    page = Page((comparison / "report.html").read_text("utf-8"))
    start = page.text[page.text.index("Did the curriculum help?\n") :][:1200]
    assert "Helped.\nRecipe ended" in start
    assert "Helped, in speed." in start
    assert "`" not in start


def test_the_comparison_shows_speed_gap_and_sharpness_by_domain(comparison: Path) -> None:
    facts = read_comparison(comparison)
    by_domain, read = domain_speeds(facts), readings(facts)
    assert by_domain is not None
    assert read is not None
    judged = [name for name in ARMS if name not in ("random", "reversed")]  # the one that diverged has no speed
    cells = [[cell.text for cell in row] for row in by_domain.rows]
    assert [row[:2] for row in cells] == [[domain, arm] for arm in judged for domain in DOMAINS]
    assert all(row[-1] == "" and row[6].endswith("of 4") for row in cells)
    shown = [[cell.text for cell in row][:3] for row in read.rows]
    names = ("generalisation gap", "gap grown by training", "sharpness", "merged sharpness")
    arms = ("recipe", "random_same_pacing", "reversed")
    assert shown == [[what, domain, arm] for what in names for arm in arms for domain in ("all", *DOMAINS)]
    over_rows = {what: {row[-1].text for row in read.rows if row[0].text == what} for what in names}
    assert over_rows == dict(zip(names, ({"0.02"}, {"0.01"}, {"–"}, {"–"}), strict=True))
    page = Page((comparison / "report.html").read_text("utf-8"))
    assert "Generalisation gap and sharpness" in page.text
    assert "No verdict hangs on these: the test loss decides." in page.text


def test_a_comparison_of_an_earlier_version_has_no_gap_and_one_speed(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=2, verdict=False)
    for path in folder.glob("runs/*/*/result.json"):
        result = json.loads(path.read_text("utf-8"))
        del result["gap"], result["curve"]["domains"]
        path.write_text(json.dumps({**result, "sharpness": {"value": 0.1, "radius": 0.05}}), "utf-8")
    verdict = make_verdict(folder)
    del verdict["readings"]
    for speed in verdict["speed"].values():
        del speed["domains"]
    (folder / "verdict.json").write_text(json.dumps(verdict), "utf-8")
    facts = read_comparison(folder)
    assert (domain_speeds(facts), readings(facts)) == (None, None)
    assert "Generalisation gap" not in Page(write_report(folder).read_text("utf-8")).text


def test_a_diverged_run_is_named_and_not_averaged_away(comparison: Path) -> None:
    page = Page((comparison / "report.html").read_text("utf-8"))
    assert "reversed with seed 1 diverged: the loss was NaN at step 300" in page.text
    facts = read_comparison(comparison)
    arm = next(arm for arm in facts.arms if arm.name == "reversed")
    assert (len(arm.finished), len(arm.diverged), len(arm.final_losses())) == (3, 1, 3)
    assert "No verdict on the reversed order: " in page.text


def test_the_final_loss_is_nats_per_token(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, verdict=False)
    path = folder / "runs" / "recipe" / "seed-0" / "result.json"
    result = json.loads(path.read_text("utf-8"))
    result["test"] |= {"loss": [3.0, 1.0], "tokens": [2, 6]}
    path.write_text(json.dumps(result), "utf-8")
    assert read_comparison(folder).arms[0].final_losses().tolist() == [0.5]


@pytest.mark.usefixtures("no_pictures")
def test_a_comparison_that_goes_on_says_how_far_it_is(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=2, verdict=False)
    shutil.rmtree(folder / "runs" / "reversed")
    text = write_report(folder).read_text("utf-8")
    assert "6 of 8 runs are done. There is no verdict yet." in text


def test_a_comparison_without_a_result_is_refused(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, verdict=False)
    shutil.rmtree(folder / "runs")
    with pytest.raises(DataError, match=r"must hold the result of a run, got none yet"):
        read_comparison(folder)
    with pytest.raises(DataError, match=r"must be a folder with compare\.json"):
        read_comparison(tmp_path)


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, verdict=False)
    (folder / "verdict.json").write_text('{"format": 2}', "utf-8")
    with pytest.raises(DataError, match=r"verdict\.json` must be of format 1, got 2"):
        read_comparison(folder)
    (folder / "verdict.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"verdict\.json` must be whole JSON"):
        read_comparison(folder)


def test_a_run_without_probes_and_rates_says_what_is_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "curriculum" / "learning_rate.json").unlink()
    (run / "curriculum" / "recipe.yaml").unlink()
    ledger = run / "curriculum" / "ledger.jsonl"
    kept = [line for line in ledger.read_text("utf-8").splitlines(keepends=True) if '"probes", "step"' not in line]
    ledger.write_text("".join(kept), "utf-8")
    content = run_content(read_run(run), [])
    assert content["missing"][0] == "Competence: this run had no held-out probes."
    assert "a run writes it into learning_rate.json when it is over" in content["missing"][1]
    assert content["recipe"] == ""


def test_a_run_that_has_only_begun_has_nothing_to_draw(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    ledger = run / "curriculum" / "ledger.jsonl"
    ledger.write_text(ledger.read_text("utf-8").splitlines(keepends=True)[0], "utf-8")
    assert run_pictures(read_run(run)) == []
    assert "Scores: none are there yet." in write_report(run).read_text("utf-8")


def test_a_loss_of_a_run_that_diverged_is_not_called_final(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=2, verdict=False)
    path = folder / "runs" / "recipe" / "seed-0" / "result.json"
    result = json.loads(path.read_text("utf-8"))  # as a run leaves it that was measured before it went wrong
    path.write_text(json.dumps({**result, "status": "diverged", "message": "NaN " * 20}), "utf-8")
    table = runs(read_comparison(folder))
    place = table.head.index("final loss")
    assert table.rows[0][place].text == "–"
    assert table.rows[1][place].sort is not None
    assert table.rows[0][table.head.index("status")].kind == "text bad"


@pytest.mark.usefixtures("no_pictures")
def test_a_verdict_on_fewer_seeds_or_arms_than_are_asked_for_says_so(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=2)
    assert read_comparison(folder).finished
    settings = json.loads((folder / "compare.json").read_text("utf-8"))
    (folder / "compare.json").write_text(json.dumps({**settings, "seeds": [0, 1, 2]}), "utf-8")
    text = write_report(folder).read_text("utf-8")
    assert "8 of 12 runs are done." in text
    assert "still going on, or stopped before its end" in text
    assert "The verdict is of an earlier state" not in text  # nothing was made since
    fewer = {name: arm for name, arm in settings["arms"].items() if name != "reversed"}
    (folder / "compare.json").write_text(json.dumps({**settings, "arms": fewer}), "utf-8")
    assert not read_comparison(folder).finished
    assert "The verdict is of an earlier state" in write_report(folder).read_text("utf-8")


def test_names_that_pictures_cannot_read_are_shown_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up, "DOMAINS", ("$a_{$ <b>", "_hidden 中文", "long " * 40))
    facts = read_run(make_run(tmp_path / "run"))
    assert competence(facts) is not None
    comparison = read_comparison(make_comparison(tmp_path / "c", seeds=2))
    assert forest(comparison, faces_of([arm.name for arm in comparison.arms])) is not None


@pytest.mark.parametrize("line", ["5", "[]", "{}", '{"event": 3}', "\0\0", "{"])
def test_a_damaged_line_of_a_ledger_is_named(tmp_path: Path, line: str) -> None:
    run = make_run(tmp_path / "run")
    ledger = run / "curriculum" / "ledger.jsonl"
    lines = ledger.read_text("utf-8").splitlines()
    ledger.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n", "utf-8")
    with pytest.raises(DataError, match=r"ledger\.jsonl` line 3 must be one whole JSON object"):
        read_run(run)
    ledger.write_text("\n".join([*lines[:2], line]), "utf-8")  # a last line without its end is being written
    assert read_run(run).stages == ()


def test_an_empty_folder_is_neither_a_run_nor_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="output_dir of a run that trained with a campus: block, or the folder of a"):
        write_report(tmp_path)


@pytest.mark.usefixtures("no_pictures")
def test_watching_writes_anew_until_the_run_ends(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    ledger = run / "curriculum" / "ledger.jsonl"
    lines = ledger.read_text("utf-8").splitlines(keepends=True)
    ledger.write_text("", "utf-8")
    told: list[str] = []
    written: list[bool] = []

    def wait(_: float) -> None:
        done = len(ledger.read_text("utf-8").splitlines())
        ledger.write_text("".join(lines[: {0: 10, 10: 20}.get(done, len(lines))]), "utf-8")

    def look(page: Path) -> None:
        written.append('http-equiv="refresh" content="5"' in page.read_text("utf-8"))

    page = watch(run, 5.0, say=told.append, written=look, wait=wait)
    assert written == [True, True, False]
    assert len(told) == 1
    assert "must begin with the line of a run" in told[0]
    assert page == run / "curriculum" / "report.html"


@pytest.mark.usefixtures("no_pictures")
def test_what_is_left_when_watching_is_interrupted_does_not_refresh(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(run, wait=interrupt)
    text = (run / "curriculum" / "report.html").read_text("utf-8")
    assert 'http-equiv="refresh"' not in text
    assert "still going on" in text


def test_a_folder_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a folder, got none"):
        watch(tmp_path / "nowhere")


@pytest.mark.usefixtures("no_pictures")
def test_the_command_says_where_the_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    run, out = make_run(tmp_path / "run"), tmp_path / "elsewhere" / "page.html"
    options = parser.parse_args(["report", str(run), "--out", str(out)])
    assert options.command(options).document == {"page": out, "plots": out.parent / "plots"}
    assert f"the page is {out}" in capsys.readouterr().out
    options = parser.parse_args(["report", str(run), "--watch", "2"])
    assert options.command(options).code == 0
    assert "finished: " in capsys.readouterr().out

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("campus_tune.cli.report.write_report", interrupt)
        options = parser.parse_args(["report", str(run)])
        assert options.command(options) == 130
    assert "An earlier page is untouched." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parser.parse_args(["report", str(run), "--watch", "0"])
    assert "must be above 0 and at most 86400, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["report", "--watch", str(run)])
    assert "must be seconds, got '" in capsys.readouterr().err


def test_columns_of_zeros_are_left_out_of_the_decisions(tmp_path: Path) -> None:
    head = run_content(read_run(make_run(tmp_path / "run")), [])["decisions"].head
    assert head == ["stage", "step", "chosen", "because", "scope to", "rows", "random", "training loss", *METRICS]


def test_learning_rates_are_shown_against_each_runs_mean() -> None:
    rates = of_mean([[1.0, 3.0, None], [2.0, 6.0, None]])
    assert rates[:2].tolist() == [0.5, 1.5]
    assert np.isnan(rates[2])


def test_calibration_of_several_seeds_is_weighted_by_tokens() -> None:
    pooled = _pooled([[[0.01, 0.0, 7], [0.21, 0.1, 30], [0.9, 1.0, 5]], [[0.25, 0.5, 10]]])
    assert np.allclose(pooled, [[0.01, 0.0, 7], [0.22, 0.2, 40], [0.9, 1.0, 5]])


@pytest.mark.parametrize(("count", "few"), [(3, True), (500, False)])
def test_a_band_of_many_stages_is_one_of_shares(count: int, few: bool) -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    strip(axis, list(range(count + 1)), ["a"] * count, faces_of(["a", "b"]))
    assert len(axis.collections) == (1 if few else 0)
    assert len(axis.patches) == (0 if few else 200)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=300))
def test_shares_of_a_bin_add_up_to_one_or_to_nothing(names: list[str]) -> None:
    _, shares = chosen_shares(list(range(len(names) + 1)), names, list("abc"))
    sums = shares.sum(axis=0)
    assert np.all(np.isclose(sums, 1) | (sums == 0))
    assert sums.any()

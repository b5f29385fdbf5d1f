"""`check`: every planted trouble of a recipe or its data is found, named and given a remedy; a good recipe passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.demo.tasks import write_tasks
from campus_tune.preview.check import RecipeCheck, check, check_recipe
from campus_tune.preview.duplicate_rows import Repeats, duplicate_findings
from campus_tune.words.findings import Finding
from campus_tune.words.strict_yaml import read_yaml

GOOD: dict[str, Any] = {
    "dataset_name": "train.jsonl",
    "per_device_train_batch_size": 4,
    "num_train_epochs": 1,
    "lr_scheduler_type": "constant",
    "campus": {
        "metrics": ["length", {"name": "column", "column": "level"}],
        "selector": "round_robin",
        "stages": 5,
        "probes": {"path": "probes.jsonl"},
    },
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 rows in two domains, 4 probes in each, and the working directory there."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(208):
        words = [f"w{k}" for k in rng.integers(0, 10**6, size=rng.integers(3, 40))]
        rows.append({"prompt": f"ask {i}", "completion": " ".join(words), "level": i % 7, "domain": "ab"[i % 2]})
    write_rows(tmp_path / "train.jsonl", rows[8:])
    write_rows(tmp_path / "probes.jsonl", rows[:8])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(campus: dict[str, Any] | None = None, **settings: Any) -> list[str]:
    """What `check` finds in the good recipe with these changes."""
    recipe = {**GOOD, **settings, "campus": {**GOOD["campus"], **(campus or {})}}
    path = Path("recipe.yaml")
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return [str(finding) for finding in check(path)]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ({"suite": "smok"}, r"got 'smok'.*Did you mean 'smoke'\?"),
        ({"suite": "smoke", "tasks": ["gsm8"]}, r"got 'gsm8'.*Did you mean 'gsm8k'\?"),
    ],
)
def test_a_misspelt_suite_or_task_is_found_before_a_model_is_loaded(evaluate: dict[str, Any], told: str) -> None:
    assert re.search(told, grave(run({"evaluate": evaluate}))[0])
    assert not grave(run({"evaluate": {"suite": "smoke", "tasks": ["gsm8k"]}}))


def grave(found: list[str]) -> list[str]:
    return [text for text in found if text.startswith(("refused", "error"))]


def one_with(found: list[str], text: str) -> str:
    [match] = [finding for finding in found if text in finding]
    return match


def test_a_model_of_another_task_is_found_by_its_configuration(folder: Path) -> None:
    (folder / "model").mkdir()
    about = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    (folder / "model" / "config.json").write_text(json.dumps(about))
    [found] = grave(run(model_name_or_path="model"))
    assert "must be a causal language model, got 'model'" in found
    assert "a model for sequence classification (LlamaForSequenceClassification)" in found


@pytest.mark.usefixtures("folder")
def test_a_good_recipe_passes_with_a_note_on_how_lengths_were_counted() -> None:
    batching, counted, power, scores, advice = run()
    assert batching.startswith("info: `batching: auto` will be step")
    assert power.startswith("info: The smallest rises of a loss that the probes can show")
    assert counted == "info: 200 rows; lengths are counted in words (the recipe names no model)."
    assert scores.startswith("info: The scores, and their rank correlations (ρ):\n  metric  rows")
    assert "nothing here suggests that an order will help" in advice


@pytest.mark.usefixtures("folder")
def test_all_problems_of_a_recipe_are_found_before_the_data_are_read() -> None:
    found = run(
        {"metrics": ["lenth"], "stages": 0, "mixx": 1}, dataset_name="nowhere.jsonl", packing=True, learning_rat=1
    )
    assert len(grave(found)) == len(found) == 5
    assert one_with(found, "'lenth'").endswith("Did you mean 'length'?")
    assert one_with(found, "`learning_rat`").endswith("Did you mean 'learning_rate'?")
    assert "nowhere" not in "".join(found)


@pytest.mark.usefixtures("folder")
def test_packing_is_answered_with_what_to_write_instead() -> None:
    assert "campus: {batching: flat}" in one_with(run(packing=True), "error: `packing` must be off")


@pytest.mark.usefixtures("folder")
def test_what_a_run_trains_is_not_refused() -> None:
    assert grave(run(padding_free=True, train_sampling_strategy="sequential")) == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("setting", "severity"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "error"),
        ({"auto_find_batch_size": True}, "warning"),
        ({"save_only_model": True}, "warning"),
        ({"dataset_streaming": True}, "error"),
        ({"streaming": True}, "error"),
    ],
)
def test_trainer_options_that_work_against_a_plan_are_named(setting: dict[str, Any], severity: str) -> None:
    name = next(iter(setting)).removeprefix("dataset_")
    assert any(finding.startswith(severity) and name.split("_")[0][:6] in finding for finding in run(**setting))


@pytest.mark.usefixtures("folder")
def test_the_method_is_refused_together_with_the_data_findings() -> None:
    found = run({"metrics": ["length", "loss"], "selector": "lowest_perplexity"})
    assert found[0].startswith("refused: lowest_perplexity with a `loss` order")
    assert one_with(found, "`loss` is measured by the model").endswith("ahead of it with `campus-tune score`.")


@pytest.mark.usefixtures("folder")
def test_hard_rows_under_a_decayed_rate_are_warned_of() -> None:
    campus = {"metrics": ["length"], "selector": "fixed", "window": "slice", "mix": 0.1, "handover": 1.0}
    decayed = run(campus, lr_scheduler_type="linear")
    assert "The hardest tenth of the rows by `length` is trained at" in one_with(decayed, "2511.18903")
    assert not any("2511.18903" in text for text in run(campus))


@pytest.mark.usefixtures("folder")
def test_a_schedule_that_cannot_be_simulated_is_said() -> None:
    assert "could not be simulated" in one_with(
        run(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="steps"), "rate schedule"
    )
    assert "num_decay_steps" in one_with(run(lr_scheduler_type="warmup_stable_decay"), "must make a schedule")


def test_probe_rows_that_are_training_rows_are_named(folder: Path) -> None:
    rows = read_rows(folder / "train.jsonl")
    write_rows(folder / "probes.jsonl", [*read_rows(folder / "probes.jsonl"), rows[17]])
    [error] = grave(run())
    assert error.startswith("error: 1 probe row is a training row (probe 8 and row 17)")


def test_domains_that_only_one_side_has_are_named(folder: Path) -> None:
    rows = read_rows(folder / "probes.jsonl")
    write_rows(folder / "probes.jsonl", [{**row, "domain": "c"} if row["domain"] == "b" else row for row in rows])
    found = run()
    assert one_with(found, "Domain 'b' has training rows and no probe rows").startswith("warning")
    assert one_with(found, "Probe domain 'c' has no training rows").startswith("warning")


def test_probes_without_domains_are_told_to_be_one(folder: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "domain"} for row in read_rows(folder / "probes.jsonl")]
    write_rows(folder / "probes.jsonl", rows)
    assert "competence is measured over all probes at once" in one_with(run(), "domain_column")


def test_a_milestone_of_an_unknown_probe_is_an_error_and_the_nearest_is_named(folder: Path) -> None:
    rows = [{**row, "domain": {"a": "sums", "b": "code"}[row["domain"]]} for row in read_rows(folder / "probes.jsonl")]
    write_rows(folder / "probes.jsonl", rows)
    milestone = {"name": "counts", "probe": "sum", "loss": 0.8}
    assert one_with(run({"milestones": [milestone]}), "milestones").startswith(
        "error: `milestones: counts: probe` must be a domain of the probes (sums, code), got 'sum'. Did you mean 'su"
    )
    assert not any("milestones" in found for found in run({"milestones": [{**milestone, "probe": "sums"}]}))
    write_rows(folder / "probes.jsonl", [{k: v for k, v in row.items() if k != "domain"} for row in rows])
    assert "a domain of the probes (all), got 'sum'" in one_with(run({"milestones": [milestone]}), "milestones")


@pytest.mark.usefixtures("folder")
def test_acting_on_few_probe_rows_and_stopping_under_a_falling_rate_are_warned_of() -> None:
    when = {"regression": ["rollback", "stop"], "stagnation": "note"}
    found = run({"when": when}, lr_scheduler_type="linear")
    assert "fewer than 30 rows (a: 4, b: 4)" in one_with(found, "acts on probes")
    assert one_with(found, "can stop the run before its learning rate has fallen").startswith("warning")
    assert "(a: 3, b: 3)" in one_with(
        run({"when": when, "probes": {"path": "probes.jsonl", "max_rows": 3}}), "acts on probes"
    )
    followed = run({"when": {"regression": "note"}}, lr_scheduler_type="constant_with_warmup")
    assert not any("acts on probes" in one or "can stop" in one for one in followed)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("campus", "settings", "message"),
    [
        ({"probes": {"path": "probe.jsonl"}}, {}, "No such file or directory. Did you mean 'probes.jsonl'?"),
        ({}, {"dataset_name": "trian.jsonl"}, "No such file or directory. Did you mean 'train.jsonl'?"),
        ({"within": "topic"}, {}, "`within` must be a column of the training set (prompt, completion, level, domain)"),
        (
            {"metrics": [{"name": "column", "column": "levl"}]},
            {},
            "`column: levl` must be a column of the training set",
        ),
        ({"selector": "matched", "probes": None}, {}, "`selector` must have probes to be 'matched', got none."),
        (
            {},
            {"per_device_train_batch_size": 500},
            "The training set has 200 rows, fewer than one optimizer step takes",
        ),
    ],
)
def test_what_the_data_do_not_have_is_an_error(campus: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    [error] = grave(run(campus, **settings))
    assert message in error


@pytest.mark.usefixtures("folder")
def test_too_few_rows_for_the_stages_is_warned_of() -> None:
    found = run({"stages": 60})
    assert "stages: 60 do not fit in an epoch of 50 optimizer steps" in one_with(found, "Write stages: 25 or fewer")


@pytest.mark.usefixtures("folder")
def test_two_metrics_that_are_one_are_found() -> None:
    found = run({"metrics": ["length", {"name": "length", "of": "both", "label": "both"}]})
    assert any("`length` and `both` order the rows alike" in text for text in found)


# -- the scores ----------------------------------------------------------------------------------------------------

COLUMN = {"name": "column", "column": "level"}


def table_of(found: list[str]) -> list[str]:
    return one_with(found, "The scores, and their rank correlations").splitlines()[1:]


@pytest.mark.usefixtures("folder")
def test_the_scores_are_shown_with_their_correlation_with_the_level_column() -> None:
    shown = table_of(run())
    assert [line.split()[:2] for line in shown[:3]] == [["metric", "rows"], ["length", "200"], ["level", "200"]]
    assert "ρ level within" in shown[0]
    assert shown[2].split()[-2:] == ["1.00", "1.00"]


def test_the_level_may_have_another_name(folder: Path) -> None:
    for path in (folder / "train.jsonl", folder / "probes.jsonl"):
        write_rows(path, [{"grade": row.pop("level"), **row} for row in read_rows(path)])
    metrics = {"metrics": ["length"], "selector": "fixed"}
    assert "ρ level" not in table_of(run(metrics))[0]
    assert "ρ level" in table_of(run({**metrics, "level": "grade"}))[0]
    [error] = grave(run({**metrics, "level": "grad"}))
    assert "`level` must be a column of the training set" in error
    assert "Did you mean 'grade'?" in error


@pytest.mark.usefixtures("folder")
def test_an_ensemble_of_texts_is_combined_with_its_members_in_the_table() -> None:
    shown = table_of(run({"metrics": [{"name": "rank_mean", "of": ["length", "mtld"]}, COLUMN]}))
    assert [line.split()[0] for line in shown[1:5]] == ["length", "mtld", "level", "rank_mean"]


@pytest.mark.usefixtures("folder")
def test_an_ensemble_with_a_model_in_it_waits_for_the_run() -> None:
    found = run({"metrics": [{"name": "rank_mean", "of": ["length", "loss"]}, COLUMN]})
    assert one_with(found, "`rank_mean` is combined").endswith("when `loss` is measured.")
    assert "rank_mean" not in "".join(table_of(found))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("of", ["length", "loss"])
def test_the_column_of_an_ensemble_s_own_groups_is_looked_for_also_where_it_waits(of: str) -> None:
    spread = {"name": "spread", "of": of, "groups": "domain"}
    block = {"metrics": [spread, COLUMN], "within": "none"}
    assert not grave(run(block))
    [error] = grave(run({**block, "metrics": [{**spread, "groups": "domian"}, COLUMN]}))
    assert "`spread: groups` must be a column of the training set" in error
    assert "Did you mean 'domain'?" in error


@pytest.mark.usefixtures("folder")
def test_an_ensemble_that_orders_nothing_is_an_error() -> None:
    [error] = grave(run({"metrics": [{"name": "rank_mean", "of": ["length", "-length"]}, COLUMN]}))
    assert "`rank_mean` gives every row the same score" in error


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "entry",
    [
        {"name": "parse_depth", "model": "xx_none_sm"},
        {"name": "rank_mean", "of": ["length", {"name": "parse_depth", "model": "xx_none_sm"}]},
    ],
)
def test_a_missing_pipeline_is_found_before_the_data_are_read(entry: dict[str, Any]) -> None:
    [error] = grave(run({"metrics": ["length", entry]}, dataset_name="nowhere.jsonl"))
    assert error.endswith("python -m spacy download xx_none_sm")


@pytest.mark.usefixtures("folder")
def test_a_metric_whose_paper_goes_the_other_way_is_noted() -> None:
    found = run({"metrics": ["length", {"name": "learnability", "proxy": "./proxy"}]})
    assert one_with(found, "write -learnability").startswith("info: `learnability` opens the rows of the lowest values")


@pytest.mark.usefixtures("folder")
def test_a_recipe_without_data_is_checked_as_far_as_it_goes() -> None:
    assert run({"metrics": ["length"], "batching": "step"}, dataset_name=None) == [
        "info: The recipe names no dataset_name: the data were not looked at."
    ]


def test_a_missing_recipe_is_one_error(tmp_path: Path) -> None:
    [finding] = check(tmp_path / "none.yaml")
    assert "must be a readable YAML file" in finding.what


@pytest.mark.usefixtures("folder")
def test_the_text_ends_with_the_sum_and_gravity_follows_it() -> None:
    run({"metrics": ["length", "loss"], "selector": "lowest_perplexity"})
    found = check_recipe("recipe.yaml")
    assert str(found).endswith("1 refused, 0 errors, 1 warnings, 6 notes")
    assert found.counts == {"refused": 1, "error": 0, "warning": 1, "info": 6}
    assert found.grave
    assert not RecipeCheck("", ()).grave


@pytest.mark.usefixtures("folder")
def test_a_check_is_a_table_a_document_and_html() -> None:
    run({"metrics": ["length", "loss"], "selector": "lowest_perplexity"})
    found = check_recipe(Path("recipe.yaml"))
    assert found.table.columns.tolist() == ["severity", "what", "remedy"]
    assert found.table.severity.tolist() == [finding.severity for finding in found.findings]
    document = json.loads(json.dumps(found.to_mapping()))
    assert (document["recipe"], document["grave"]) == ("recipe.yaml", True)
    assert document["findings"][0] == vars(found.findings[0])
    assert document["counts"]["info"] == 6
    shown = RecipeCheck("", (Finding("info", "<b>"),))._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert repr(found) == str(found)


@pytest.mark.usefixtures("folder")
def test_a_mapping_is_checked_as_its_file_would_be() -> None:
    run({"metrics": ["length", "loss"], "selector": "lowest_perplexity"})
    of_file, of_mapping = check_recipe("recipe.yaml"), check_recipe(read_yaml("recipe.yaml"))
    assert of_mapping.findings == of_file.findings
    assert of_mapping.recipe == ""
    assert check_recipe({"dataset_name": "x"}).findings[0].what.startswith("`campus` must be a block in the mapping")


def test_the_demo_tasks_hold_their_probes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path, rows_per_cell=8, probes_per_cell=2, seed=0)
    assert grave(run()) == []


@pytest.mark.usefixtures("folder")
def test_rows_that_repeat_an_earlier_one_are_counted_by_domain() -> None:
    rows = read_rows(Path("train.jsonl"))
    copies = [{**row, "prompt": row["prompt"].upper() + "!"} for row in rows[:8]]
    write_rows(Path("train.jsonl"), [*rows, *copies])
    told = one_with(run(), "word for word what an earlier row says")
    assert told.startswith("warning: 8 of 208 training rows say word for word")
    assert "(3.8%; row 200 and row 0, row 201 and row 1, row 202 and row 2, …); by domain: a 4, b 4." in told
    assert told.endswith("write drop: [{by: duplicates, keep: first}].")
    dropped = one_with(run({"drop": [{"by": "duplicates", "keep": "first"}]}), "word for word what an earlier row says")
    assert dropped.startswith("info: ")
    assert "drop:" not in dropped


@pytest.mark.usefixtures("folder")
def test_rows_that_repeat_most_of_another_are_told_apart_from_equal_ones() -> None:
    rows = read_rows(Path("train.jsonl"))
    long = next(row for row in rows if len(row["completion"].split()) > 20)
    write_rows(Path("train.jsonl"), [*rows, {**long, "prompt": "something else"}])
    told = one_with(run(), "mostly what an earlier row says")
    assert told.startswith("info: 1 of 201 training row says mostly what an earlier row says (0.5%; row 200")
    assert "near: false" in told


@pytest.mark.usefixtures("folder")
def test_prompts_with_contradicting_answers_are_told_and_not_dropped() -> None:
    rows = read_rows(Path("train.jsonl"))
    write_rows(Path("train.jsonl"), [*rows, {**rows[3], "completion": "something else"}])
    told = one_with(run({"drop": [{"by": "duplicates"}]}), "answered in more than one way")
    assert (
        "info: 1 prompt is answered in more than one way, in 2 rows (“ask 11” in rows 3, 200); by domain: b 2." in told
    )
    assert told.endswith("write drop: [{by: judged, path: judged.jsonl}].")


def test_of_a_large_set_the_first_rows_are_compared_and_it_says_so() -> None:
    said = Said.of_rows([{"prompt": "same", "completion": "again"}] * 10, Shape())
    first, equal = duplicate_findings(said, Repeats.of(said, 35), None, dropped=False)
    assert str(first) == "info: The first 3 of 10 rows were compared with each other, for 35 characters."
    assert "2 of 3 training rows say word for word" in equal.what
    assert len(list(duplicate_findings(said, Repeats.of(said), None, dropped=False))) == 1
    nothing = Said([], [], [])
    assert list(duplicate_findings(nothing, Repeats.of(nothing), None, dropped=False)) == []


@pytest.mark.usefixtures("folder")
def test_a_clean_set_is_not_said_to_repeat_itself() -> None:
    assert not [text for text in run() if "earlier row" in text or "more than one way" in text]


@pytest.mark.usefixtures("folder")
def test_what_a_recipe_drops_is_told_with_reasons_and_domains() -> None:
    rows = read_rows(Path("train.jsonl"))
    write_rows(Path("train.jsonl"), [*rows, rows[0], rows[3]])
    drop = [{"by": "duplicates"}, {"by": "length", "lowest": 0.05}, {"by": "loss", "lowest": 0.05}]
    found = run({"drop": drop})
    told = one_with(found, "`drop` leaves out")
    assert told.startswith(
        "info: `drop` leaves out 12 of 202 rows (5.9%): duplicates: equal 2, length: lowest 0.05 10; "
    )
    assert "; by domain: " in told
    one_with(found, "`drop: loss: lowest 0.05` is decided in the run, when its scores are measured.")
    assert not [text for text in run() if "`drop" in text and "leaves out" in text]


@pytest.mark.usefixtures("folder")
def test_suspects_are_no_rows_that_are_left_out_from_the_start() -> None:
    found = run({"drop": [{"by": "suspects"}]})
    assert not [text for text in found if "leaves out" in text or "when its scores are measured" in text]
    one_with(found, "`drop: suspects` drops nothing in this run of one epoch")
    one_with(run({"drop": [{"by": "suspects"}, {"by": "length", "lowest": 0.05}]}), "`drop` leaves out 10 of 200 rows")


@pytest.mark.usefixtures("folder")
def test_a_bound_that_keeps_what_a_recipe_drops_is_a_warning() -> None:
    told = one_with(run({"drop": [{"by": {"name": "column", "column": "level"}, "below": 4}]}), "below 4` names")
    assert told.startswith("warning: `drop: level: below 4` names 115 rows and drops 20: 95 stay, for half of their ")
    assert "and at_most: 0.1 of all rows are dropped (80)." in told


@pytest.mark.usefixtures("folder")
def test_a_file_of_judged_rows_that_are_none_is_an_error_before_anything_is_trained() -> None:
    row = read_rows(Path("train.jsonl"))[5]
    write_rows(Path("judged.jsonl"), [{**row, "prompt": "nobody asked"}])
    assert (
        "must hold rows of the training set, got 1 of 1 that are none"
        in grave(run({"drop": [{"by": "judged", "path": "judged.jsonl"}]}))[0]
    )
    write_rows(Path("judged.jsonl"), [row])
    told = one_with(run({"drop": [{"by": "judged", "path": "judged.jsonl"}]}), "`drop` leaves out")
    assert "1 of 200 rows (0.5%): judged 1; by domain: b 1." in told


@pytest.mark.usefixtures("folder")
def test_values_that_no_run_has_left_are_an_error_before_anything_is_trained() -> None:
    drop = [{"by": "value", "path": "runs/none/curriculum/value/values.parquet"}]
    [told] = grave(run({"drop": drop}))
    assert "`drop: path` must be the values that an earlier run has left, got `runs/none/curriculum/value/" in told


# -- who is drawn, and which rows --------------------------------------------------------------------------------------

SHUFFLED: dict[str, Any] = {"metrics": [], "selector": "shuffle", "probes": None}
WORTH = {"name": "column", "column": "worth"}


@pytest.fixture
def drawn(folder: Path) -> Path:
    """The same rows in two very unequal domains, with a worth that is nearly the length."""
    rows = read_rows(folder / "train.jsonl")
    for number, row in enumerate(rows):
        row["worth"] = len(row["completion"]) + number % 7
        row["domain"] = "rare" if number % 67 == 0 else "usual"
    write_rows(folder / "train.jsonl", rows)
    return folder


@pytest.mark.usefixtures("drawn")
def test_a_domain_of_hardly_any_rows_is_noted_with_a_floor_that_helps() -> None:
    note = one_with(run({"probes": None}), "times the rows of")
    assert note.startswith("info: usual has 66 times the rows of rare (197 and 3), which is 1.5% of each stage.")
    assert note.endswith("write domains: {least: 0.02}.")
    assert not any("times the rows of" in text for text in run({"probes": None, "domains": {"least": 0.02}}))


@pytest.mark.usefixtures("drawn")
def test_what_a_run_would_refuse_of_its_draw_is_an_error() -> None:
    found = grave(run({**SHUFFLED, "thin": {"how": "prune"}, "domains": {"shares": {"rare": 0.5, "usual": 0.5}}}))
    assert "got rare: 0.5 of a stage of 40 rows is 20, and it has 3. Lower its share to 0.075" in one_with(
        found, "rare"
    )
    [error] = grave(run({**SHUFFLED, "thin": {"how": "prune"}}))
    assert "no row was seen before, there is nothing to go by" in error
    assert grave(run({**SHUFFLED, "thin": {"how": "prune"}}, num_train_epochs=2)) == []  # as it says
    [error] = grave(run({**SHUFFLED, "domains": {"shares": {"raer": 0.5, "usual": 0.5}}}))
    assert "Did you mean 'rare'?" in error
    [error] = grave(run({**SHUFFLED, "thin": {"how": "top", "by": "length"}, "cells": {"of": "sorce"}}))
    assert "`cells: of` must be a column of the training set" in error
    [error] = grave(run({**SHUFFLED, "thin": {"how": "top", "by": "length", "fresh": True}}))
    assert "`thin: fresh` must go by what the model in hand says, got by: length" in error
    assert grave(run({**SHUFFLED, "thin": {"how": "top", "by": "loss", "fresh": True}})) == []


@pytest.mark.usefixtures("drawn")
def test_passes_of_a_domain_that_comes_often_are_warned_of_and_a_smaller_share_helps() -> None:
    shares = {"rare": 0.07, "usual": 0.93}
    warning = one_with(run({**SHUFFLED, "domains": {"shares": shares}}), "more than 4 times")
    assert warning.startswith("warning: These domains' rows will be trained more than 4 times each: rare 4.7 times.")
    lower = run({**SHUFFLED, "domains": {"shares": {"rare": 0.05, "usual": 0.95}}})
    assert not any("more than 4 times" in text for text in lower)


@pytest.mark.usefixtures("drawn")
def test_phases_are_told_with_their_learning_rate() -> None:
    phases = [{"until": 0.8}, {"until": 1, "top": {"length": 0.5}}]
    decayed = run({**SHUFFLED, "phases": phases}, lr_scheduler_type="cosine")
    assert one_with(decayed, "Phase 2 has 20% of the steps").startswith("warning")
    constant = run({**SHUFFLED, "phases": phases}, lr_scheduler_type="constant_with_warmup")
    assert not any("Phase 2" in text for text in constant)
    assert one_with(constant, "phase 1 has 80%").startswith("info")


@pytest.mark.usefixtures("drawn")
def test_a_score_that_is_mostly_the_length_is_warned_of_where_rows_are_chosen_by_it() -> None:
    dropped = run({**SHUFFLED, "drop": [{"by": WORTH, "lowest": 0.05}]})
    assert "`drop` by it is mostly a choice by length" in one_with(dropped, "goes with the length")
    assert "leaves out 10 of 200 rows" in one_with(dropped, "leaves out")
    level = run({**SHUFFLED, "drop": [{"by": COLUMN, "lowest": 0.05}]})
    assert not any("goes with the length" in text for text in level)
    thin = {"how": "top", "by": WORTH}
    apart = run({**SHUFFLED, "thin": thin, "cells": {"by": COLUMN, "bands": 2}})
    assert "write cells: {by: length}" in one_with(apart, "`thin` by it is mostly")
    assert not any("goes with the length" in text for text in run({**SHUFFLED, "thin": thin}))  # as it says


@pytest.mark.usefixtures("drawn")
def test_scores_that_order_nothing_may_say_what_another_says() -> None:
    same = [{"by": {**WORTH, "label": "a"}, "lowest": 0.1}, {"by": {**WORTH, "label": "b"}, "lowest": 0.1}]
    assert not any("order the rows alike" in text for text in run({**SHUFFLED, "drop": same}))
    assert any("order the rows alike" in text for text in run({"metrics": ["length", WORTH], "probes": None}))


@pytest.mark.usefixtures("drawn")
def test_a_label_of_another_block_is_told_where_to_write_it() -> None:
    blocks = {"thin": {"how": "top", "by": WORTH}, "drop": [{"by": "worth", "lowest": 0.1}]}
    [error] = grave(run({**SHUFFLED, **blocks}))
    assert error.endswith(
        "It is the label of another block's metric: write the same mapping here, or name it under `metrics`."
    )
    assert grave(run({**SHUFFLED, **blocks, "drop": [{"by": dict(WORTH), "lowest": 0.1}]})) == []


@pytest.mark.usefixtures("folder")
def test_a_metric_of_probes_asks_for_enough_of_a_domain_that_is_there() -> None:
    entry = {"name": "-influence", "probe": "c"}
    (told,) = grave(run({"metrics": [entry], "selector": "fixed"}))
    assert "`-influence: probe` must be a domain of the probes (" in told
    assert "got 'c'" in told
    (told,) = grave(run({"metrics": ["-influence"], "selector": "fixed"}))
    assert re.search(r"`-influence` must have 8 probe rows or more .*, got fewer: [ab] has 4, [ab] has 4\.", told)
    (told,) = grave(run({"metrics": ["-influence"], "selector": "fixed", "probes": None}))
    assert "`-influence` must have probes to say what lowers their loss, got none." in told


def test_a_metric_of_probes_is_told_to_be_measured_when_the_run_starts(folder: Path) -> None:
    more = [{**row, "prompt": f"{row['prompt']} {k}"} for k in range(3) for row in read_rows(folder / "probes.jsonl")]
    write_rows(folder / "probes.jsonl", more)
    found = run({"metrics": ["influence"], "selector": "fixed"})
    assert not grave(found)
    assert any("`influence` is measured by the model when the run starts, or ahead" in text for text in found)
    assert any("opens the rows of the lowest values first; the paper trains what lowers" in text for text in found)


@pytest.mark.usefixtures("folder")
def test_what_batching_will_be_is_said_where_the_recipe_leaves_it_open() -> None:
    assert one_with(run(), "`batching: auto` will be step").startswith("info")
    assert not any("batching" in text for text in run({"metrics": ["length"], "batching": "step"}))

"""Advice rests on what was measured: each line names rows of the table, and says to act only where something helped."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.dirt import Dirt
from campus_tune.preview import earned_advice as module
from campus_tune.preview.check import check
from campus_tune.preview.earned_advice import (
    Advice,
    Signs,
    does_already,
    earned_advice,
    in_yaml,
    lag_words,
    trains_an_order,
)
from campus_tune.preview.evidence import VERDICTS, EvidenceTable, as_table
from campus_tune.recipe.config import CampusConfig
from tests.preview.made_up_evidence import ACTS, ROBUST, acts, arm, order, situation, table, table_json

SHUFFLED = CampusConfig(selector="shuffle")
DIRTY = Dirt(1000, 0.2, 0.12, 0.3, {"code": Dirt(500, 0.15, 0.12, 0.19), "math": Dirt(500, 0.02, 0.0, 0.05)})
CLEAN = Signs(1000, 3, {"code": 500, "math": 500}, config=SHUFFLED)


def lines(signs: Signs, of: EvidenceTable | None = None) -> list[Advice]:
    return earned_advice(signs, of or table())


def one(signs: Signs, told: str, of: EvidenceTable | None = None) -> Advice:
    [found] = [advice for advice in lines(signs, of) if told in advice.said]
    return found


def test_clean_rows_hear_that_no_order_is_expected_to_help_and_of_nothing_else() -> None:
    [found] = lines(CLEAN)
    assert found.said == (
        "three epochs, two domains: nothing here suggests that an order will help (on a tiny model that knows easy "
        "tasks, `clean_3`: 1.0 % higher (−2.0 % to +4.0 %; 8 seeds), no detectable difference)"
    )
    assert (found.rows, found.write) == (("clean_3",), "")
    assert "one epoch: nothing here suggests" in lines(Signs(1000, 1))[0].said
    assert lines(Signs(1000, 1))[0].rows == ("clean_1",)


def test_rows_that_look_wrong_are_told_by_domain_with_what_helped_and_on_what() -> None:
    found = one(replace(CLEAN, dirt=DIRTY), "look wrong")
    assert found.said == (
        "12 to 19 % of `code` look wrong: what helped there is dropping suspects (on a tiny model that knows easy "
        "tasks, `wrong_30`: 12 % lower (9.0 to 15 %; 8 seeds), helped; on SmolLM2 with LoRA, `smol_wrong_30`: 0.5 % "
        "lower (−3.5 % to +2.5 %; 8 seeds), underpowered)"
    )
    assert found.rows == ("wrong_30", "smol_wrong_30")
    assert found.write == "Write campus: {selector: shuffle, drop: [{by: suspects, act: auto}]}."
    assert found.record() == {"line": f"{found.said}. {found.write}", "rows": ["wrong_30", "smol_wrong_30"]}


def test_where_the_nearest_situation_shows_no_help_it_says_so_and_not_to_act() -> None:
    little = Dirt(1000, 0.04, 0.02, 0.06)
    found = one(replace(CLEAN, dirt=little), "look wrong")
    assert found.said.startswith("2 to 6 % of the rows look wrong: nothing that was tried is shown to help there (on a")
    assert found.rows[0] == "wrong_5"
    assert found.write == ""


def test_nothing_is_said_of_dirt_that_is_not_seen_nor_where_nobody_asked() -> None:
    for dirt in (None, Dirt(1000, 0.01, 0.0, 0.03)):
        assert not [found for found in lines(replace(CLEAN, dirt=dirt)) if "wrong" in found.said]
    assert lines(replace(CLEAN, dirt=DIRTY), as_table({**table_json(), "situations": []})) == []


def test_a_recipe_that_does_it_already_is_told_so_and_one_that_only_says_so_is_not() -> None:
    does = CampusConfig(metrics=["length"], drop=[{"by": "suspects"}])
    found = one(replace(CLEAN, dirt=DIRTY, config=does), "look wrong")
    assert found.said.endswith("), as this recipe does")
    assert found.write == ""
    default = one(replace(CLEAN, dirt=DIRTY, config=CampusConfig()), "look wrong")  # it may not have acted
    assert default.said.endswith("), as this recipe does once it is sure that rows are wrong (`act: auto`)")
    never = CampusConfig(selector="shuffle", drop=[{"by": "suspects", "act": "never"}])
    assert one(replace(CLEAN, dirt=DIRTY, config=never), "look wrong").write
    assert one(replace(CLEAN, dirt=DIRTY, config=None), "look wrong").write
    judged = table().rows[3].arms["auto"]
    assert not does_already(SHUFFLED, judged)
    assert not does_already(CampusConfig(selector="shuffle", drop=[{"by": "duplicates"}]), judged)
    assert not does_already(SHUFFLED, replace(judged, campus={"selector": "shuffle"}))  # shuffling is no doing


def test_what_hurt_on_another_base_is_told_and_not_advised() -> None:
    said = table_json()
    said["situations"][-1]["arms"]["auto"] = acts(0.1, "hurt")
    found = one(replace(CLEAN, dirt=DIRTY), "look wrong", as_table(said))
    assert "10 % higher (7.0 to 13 %; 8 seeds), hurt" in found.said
    assert found.write == ""


@pytest.mark.parametrize(
    ("signs", "told", "row"),
    [
        ({"repeated": 0.18}, "18 % of the rows say what an earlier row says", "duplicates_20"),
        ({"contradicting": 0.013}, "1.3 % of the rows have a prompt that is answered in another way", "two_answers"),
        ({"domains": {"chat": 900, "code": 100}}, "`chat` has 90 % of the rows", "domains_80"),
        ({"probe_losses": {"a": 1.0, "b": 3.0}}, "the probes of `b` cost 1.50 times the mean", "domains_80"),
        ({"config": CampusConfig(metrics=["length"], phases=[{"until": 0.5}, {"until": 1}])}, "two phases", "phases"),
        ({"rows": 150, "epochs": 10}, "150 rows, ten epochs", "small_many"),
    ],
)
def test_each_sign_leads_to_the_situation_that_has_it(signs: Mapping[str, Any], told: str, row: str) -> None:
    found = one(replace(CLEAN, **signs), told)
    assert found.rows == (row,)
    assert found.write == ""


@pytest.mark.parametrize(
    "signs",
    [
        {"repeated": 0.009, "contradicting": 0.009},
        {"domains": {"chat": 600, "code": 400}, "probe_losses": {"a": 1.0, "b": 1.2}},
        {"domains": {"chat": 1000}, "probe_losses": {"a": 9.0}},
        {"rows": 150, "epochs": 5},
        {"rows": 200, "epochs": 12},
        {"probe_losses": {"a": 0.0, "b": 0.0}},
    ],
)
def test_what_is_too_little_to_be_a_situation_is_none(signs: Mapping[str, Any]) -> None:
    assert len(lines(replace(CLEAN, **signs))) == 1  # of orders


def test_where_an_order_has_helped_it_is_advised_to_who_has_none() -> None:
    said = table_json()
    said["situations"][1] |= {"arms": {"default": order(-0.1, "helped")}, "helps": "default"}
    found = one(CLEAN, "what helped there is an order by length", as_table(said))
    assert found.write == "Write campus: {metrics: [length, mtld]}."
    assert one(replace(CLEAN, config=CampusConfig(metrics=["length"])), "an order by", as_table(said)).write == ""


def test_an_order_that_beats_no_control_is_not_advised() -> None:
    said = table_json()
    said["situations"][1]["arms"]["default"] = {**order(-0.1, "helped"), "beats_controls": False}
    found = one(CLEAN, "nothing here suggests", as_table(said))
    assert "8 seeds), helped, but so did its controls)" in found.said
    assert found.write == ""


def test_a_name_for_nearly_every_row_names_no_domains() -> None:
    ids = {str(i): 1 for i in range(900)}
    assert "domain" not in lines(replace(CLEAN, domains=ids))[-1].said.split(":")[0]
    assert "100 domains" in lines(replace(CLEAN, rows=900, domains=dict.fromkeys(list(ids)[:100], 9)))[-1].said


def test_where_no_order_was_tried_on_clean_rows_the_nearest_others_are_cited() -> None:
    said = table_json()
    for row in said["situations"][:2]:
        row["arms"] = {"auto": acts(0.0, "underpowered")}
    assert lines(CLEAN, as_table(said))[-1].rows == ("wrong_5",)  # two epochs, the first of them


def test_of_several_that_helped_the_recipe_hears_of_the_one_that_it_has() -> None:
    said = table_json()
    said["situations"][3]["arms"]["robust"] = arm("robust weights", ROBUST, -0.05, "helped")
    has = CampusConfig(metrics=["length"], weights=["robust"])
    found = one(replace(CLEAN, dirt=DIRTY, config=has), "look wrong", as_table(said))
    assert "what helped there is robust weights (" in found.said
    assert found.said.endswith("), as this recipe does")
    assert "what helped there is dropping suspects" in one(replace(CLEAN, dirt=DIRTY), "look", as_table(said)).said


def test_a_situation_in_which_nothing_was_tried_is_not_cited() -> None:
    said = table_json()
    said["situations"][4]["arms"] = {}
    assert not [found for found in lines(replace(CLEAN, repeated=0.2), as_table(said)) if "say what" in found.said]


def test_an_arm_with_an_order_and_something_else_says_nothing_of_orders() -> None:
    judged = table().rows[1].arms["default"]
    assert trains_an_order(judged)
    for more in ({"drop": [{"by": "suspects"}]}, {"weights": ["robust"]}, {"handover": 0}):
        assert not trains_an_order(replace(judged, campus={**judged.campus, **more}))
    assert not trains_an_order(replace(judged, campus={"selector": "shuffle"}))


def test_a_domain_that_lags_is_told_by_rows_and_by_probes() -> None:
    assert lag_words(Signs(9, 1, {"a": 8, "b": 1}, probe_losses={"a": 1, "b": 3})) == (
        "`a` has 89 % of the rows, and the probes of `b` cost 1.50 times the mean"
    )


# -- of whatever is seen, and whatever was judged ------------------------------------------------------------------

FINITE = st.floats(-0.9, 0.9)
ARMS = st.dictionaries(
    st.sampled_from(["default", "auto", "robust"]),
    st.tuples(FINITE, st.sampled_from([*VERDICTS, None]), st.sampled_from([ACTS, ROBUST, {"metrics": ["length"]}])),
)


@st.composite
def tables(draw: st.DrawFn) -> EvidenceTable:
    said = {**table_json(), "situations": []}
    for number in range(draw(st.integers(0, 12))):
        arms = {name: arm(name, block, effect, word) for name, (effect, word, block) in draw(ARMS).items()}
        helped = [name for name, one in arms.items() if one["verdict"] == "helped"]
        said["situations"].append(
            situation(
                f"s{number}",
                draw(st.sampled_from(["clean", "wrong", "duplicates", "two answers", "lagging", "small", "mixed"])),
                arms,
                helps=draw(st.sampled_from([*helped, None])),
                base=draw(st.sampled_from(["tasks", "smol"])),
                share=draw(st.one_of(st.none(), st.floats(0.01, 0.5))),
                epochs=draw(st.floats(0.5, 20)),
                rows=draw(st.integers(10, 2000)),
            )
        )
    return as_table(said)


SIGNS = st.builds(
    Signs,
    rows=st.integers(1, 3000),
    epochs=st.floats(0.0, 30),
    domains=st.dictionaries(st.sampled_from("abc"), st.integers(1, 99)),
    dirt=st.one_of(st.none(), st.just(DIRTY), st.just(Dirt(9, 0, 0, 0.1))),
    repeated=st.floats(0, 1),
    contradicting=st.floats(0, 1),
    probe_losses=st.dictionaries(st.sampled_from("abc"), st.floats(0, 9)),
    config=st.sampled_from([None, SHUFFLED, CampusConfig(metrics=["length"], drop=[{"by": "suspects"}])]),
)


@given(SIGNS, tables())
def test_every_line_names_rows_that_there_are_and_acts_only_on_one_that_helped(signs: Signs, of: EvidenceTable) -> None:
    rows = {row.name: row for row in of.rows}
    for advice in lines(signs, of):
        assert advice.rows
        assert all(f"`{name}`" in advice.said for name in advice.rows)
        words = [judged.verdict for name in advice.rows for judged in rows[name].arms.values()]
        if advice.write:
            assert "helped" in words
            block = CampusConfig.from_mapping(
                yaml.safe_load(advice.write.removeprefix("Write ").removesuffix("."))["campus"]
            )
            helped = [
                judged for name in advice.rows for judged in rows[name].arms.values() if judged.verdict == "helped"
            ]
            assert block in [CampusConfig.from_mapping(judged.campus) for judged in helped]
        if "helped" not in words:
            assert "help" in advice.said
            assert "what helped" not in advice.said
        json.dumps(advice.record())


@given(tables(), st.floats(0.02, 0.5), st.floats(0.5, 20))
def test_the_nearest_row_of_each_base_by_a_slow_search(of: EvidenceTable, share: float, epochs: float) -> None:
    signs = Signs(10**6, epochs, dirt=Dirt(9, share, share / 2, share))
    told = [advice.rows for advice in lines(signs, of) if "look wrong" in advice.said]
    nearest = {}
    for row in of.rows:
        if row.kind == "wrong" and row.arms:
            far = abs(math.log(epochs / row.epochs)) + (0 if row.share is None else abs(math.log(share / row.share)))
            nearest[row.base] = min(nearest.get(row.base, (math.inf, "")), (far, row.name), key=lambda pair: pair[0])
    assert bool(told) == bool(nearest)
    assert {name for names in told for name in names} <= {name for _, name in nearest.values()}


def test_a_block_on_one_line_is_read_back() -> None:
    block = {**ROBUST, "domains": {"shares": {"a b": 0.5, "ü": 0.5}}}
    assert yaml.safe_load(in_yaml(block)) == {"campus": block}
    assert "\n" not in in_yaml({**block, "metrics": ["length"] * 200})


# -- told by check, and followed -----------------------------------------------------------------------------------


def test_check_tells_it_and_what_it_says_to_write_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = table_json()
    said["situations"][4] |= {"arms": {"auto": acts()}, "helps": "auto"}  # where duplicates are many
    monkeypatch.setattr(module, "evidence", lambda: as_table(said))
    rows = [{"prompt": f"ask {i % 150}", "completion": f"answer {i % 150}", "domain": "ab"[i % 2]} for i in range(200)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def told(block: dict[str, Any]) -> list[str]:
        recipe = {"dataset_name": str(tmp_path / "train.jsonl"), "num_train_epochs": 3, "campus": block}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
        return [str(finding) for finding in check(tmp_path / "recipe.yaml")]

    [before] = [text for text in told({"metrics": ["length"]}) if "25 % of the rows say" in text]
    assert before.startswith("info: 25 % of the rows say what an earlier row says: what helped there is dropping")
    [block] = re.findall(r"Write campus: (\{.*\})\.$", before)
    after = told(yaml.safe_load(block))
    [same] = [text for text in after if "25 % of the rows say" in text]
    assert same.endswith("as this recipe does once it is sure that rows are wrong (`act: auto`).")
    assert [text for text in after if text.startswith("info: Three epochs, two domains: nothing here suggests")]

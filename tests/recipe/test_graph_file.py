"""A graph of domains from what a command has measured."""

import json
from pathlib import Path

import pytest

from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_blocks import DomainSettings
from campus_tune.recipe.graph_file import read_graph
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

ABLATION: Json = {"finished": True, "graph": {"math": {"code": 0.5, "math": 1.0}}}
TRANSFER: Json = {
    "domains": ["chat", "math"],
    "probes": ["chat", "math", "elsewhere"],
    "mean": [[0.2, -0.1, 9.0], [None, 0.4, 9.0]],
    "clear": [[True, True, True], [False, True, True]],
}


def written(folder: Path, content: object) -> str:
    path = folder / "graph.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def settings(graph: str) -> DomainSettings:
    return DomainSettings.from_mapping({"reweight": {"name": "skill_graph", "graph": graph, "eta": 1.0}})


def test_settings_hold_what_the_file_says_and_not_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, ABLATION)
    found = settings(path)
    assert found.reweight == {"name": "skill_graph", "graph": ABLATION["graph"], "eta": 1.0}
    Path(path).unlink()  # a run that is resumed goes by what it was planned with
    assert DomainSettings.from_mapping(found.to_mapping()) == found


def test_it_is_read_in_a_whole_recipe(tmp_path: Path) -> None:
    block = {"metrics": ["length"], "probes": {"path": "probes.jsonl"}}
    reweight = {"name": "skill_graph", "graph": written(tmp_path, ABLATION)}
    config = CampusConfig.from_mapping({**block, "domains": {"reweight": reweight}})
    assert config.to_mapping()["domains"]["reweight"]["graph"] == ABLATION["graph"]


def test_of_a_transfer_what_is_clear_counts_on_one_scale(tmp_path: Path) -> None:
    path = Path(written(tmp_path, TRANSFER))
    assert read_graph(path) == {"chat": {"chat": 0.5, "math": -0.25}, "math": {"math": 1.0}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**ABLATION, "finished": False}, "must be of an ablation that is finished, got .* Start its command again"),
        ({**ABLATION, "graph": {}}, "must have something that was told from chance, got nothing in .*Leave reweight"),
        ({**TRANSFER, "clear": [[False] * 3] * 2}, "must have something that was told from chance, got nothing in"),
        ({"math": {"math": 1}}, r"must be a mapping, or the ablation.json or transfer.json .*must have `finished`"),
        ({**ABLATION, "graph": {"math": {"code": "x"}}}, "`graph: math: code` must be a number, got 'x'"),
        ({**TRANSFER, "clear": [[True]]}, "must be a mapping, or the ablation.json"),
        ("{", "must be a mapping, or the ablation.json .* Name another file, or write"),
    ],
)
def test_what_says_nothing_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"got '.*nowhere.json' \(.*No such file"):
        settings(str(tmp_path / "nowhere.json"))

"""Fields of a training YAML that are TRL's or accelerate's: asked last, for the libraries take seconds to load."""

from __future__ import annotations

from campus_tune.cli.known.entry import KnownName, NameRow
from campus_tune.words.wording import shown


def training_field(name: str) -> list[KnownName]:
    """What TRL or accelerate say of a field of theirs; nothing where neither has one of this name.

    Args:
        name: as a YAML has it, or as a flag.
    """
    from campus_tune.recipe.trl_yaml import BY_REWARD, SFT, trl_schema, unknown_in

    key = name.removeprefix("--")
    field = trl_schema().get(key)
    if field is None:
        return []
    facts = {
        "default": shown(field["default"]) if "default" in field else "",
        "written in": "the YAML, beside `campus:`",
    }
    said = field.get("description") or "TRL says nothing of it."
    choices = tuple(NameRow(str(one), "") for one in field.get("enum", ()))
    trainer = next(one for one in (SFT, *BY_REWARD) if not unknown_in({key: None}, one))
    flag = f"campus-tune {trainer} --config recipe.yaml --{key} …"
    return [KnownName("field of TRL or accelerate", key, said, "", facts, choices, flag, page="start")]

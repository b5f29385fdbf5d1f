"""What rules do that their names do not say: a rollback that repeats itself, an early end, too few probes.

    rule_findings     from the settings alone
    stop_findings     once the learning rates are known
    probe_findings    once the probes are known: how many rows of each domain

>>> config = CampusConfig(metrics=["length"], when={"stagnation": "rollback"})
>>> [str(finding) for finding in rule_findings(config)]
['warning: `when: stagnation` rolls back and trains on as before: what led there comes again. Write then: [rollback, \
hand_over].']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from campus_tune.preview.lr_mass import STARVED
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray
from campus_tune.words.wording import listed

FEWEST_ROWS = 30  # of a domain's probes, below which a rule should do no more than say what it sees


def rule_findings(config: CampusConfig) -> Iterator[Finding]:
    """What there is to say of the rules of a recipe."""
    for setting, actions in config.steer.answers():
        if "rollback" in actions and not config.unordered and not {"hand_over", "stop"} & {*actions}:
            what = f"`{setting}` rolls back and trains on as before: what led there comes again."
            yield Finding("warning", what, "Write then: [rollback, hand_over].")
    if (ends := config.steer.asks("next_phase")) is not None:
        what = (
            f"`{ends}` can end a phase before its `until`, then without its overlap; the phases behind it keep "
            "theirs: the next one is longer by what was left."
        )
        yield Finding("info", what)


def stop_findings(config: CampusConfig, rates: FloatArray) -> Iterator[Finding]:
    """An early end under a rate that would still have fallen.

    Args:
        config: settings.
        rates: at each optimizer step, shape (T,).
    """
    setting = config.steer.asks("stop")
    if setting is None or not len(rates) or rates[-1] >= STARVED * rates.max():
        return
    what = (
        f"`{setting}` can stop the run before its learning rate has fallen, which ends at a worse loss than a schedule "
        "that is finished there: compare it with selector: shuffle and as many steps (max_steps)."
    )
    yield Finding("warning", what, "Write lr_scheduler_type: constant_with_warmup, or then: note.")


def probe_findings(config: CampusConfig, rows: Mapping[str, int]) -> Iterator[Finding]:
    """Probes of too few rows to act on.

    Args:
        config: settings.
        rows: domain of the probes → how many of its rows are measured.
    """
    few = {name: n for name, n in rows.items() if n < FEWEST_ROWS}
    found = {
        one.setting: [name for name in few if one.probe in (None, name)]
        for one in config.steer.asked()
        if one.action != "note" and one.setting != "when: saturated"  # which training shows
    }
    if config.clock_part.by == "competence":
        found["clock: competence"] = [*few]
    for setting, names in found.items():
        if names:
            shown = listed([f"{name}: {few[name]}" for name in names], 5)
            what = (
                f"`{setting}` acts on probes of fewer than {FEWEST_ROWS} rows ({shown}): so few show hardly anything "
                "but chance."
            )
            instead = "clock: steps" if setting.startswith("clock") else "then: note"
            yield Finding("warning", what, f"Hold out more rows, or write {instead}.")

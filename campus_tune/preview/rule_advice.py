"""What rules do that their names do not say: a rollback that repeats itself, an early end, too few probes.

    rule_findings     from the settings alone
    stop_findings     once the learning rates are known
    probe_findings    once the probes are known: how many rows of each domain
    power_findings    likewise: which rise of a loss so many rows can show

>>> config = CampusConfig(metrics=["length"], when={"stagnation": "rollback"})
>>> [str(finding) for finding in rule_findings(config)]
['warning: `when: stagnation` rolls back and trains on as before: what led there comes again. Write then: [rollback, \
hand_over].']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from campus_tune.method.rules import Regression, smallest_rise
from campus_tune.preview.lr_mass import STARVED
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray
from campus_tune.words.wording import listed

# How far apart single rows change between two measurements, as a part of the loss: 0.07 to 0.13 in fifteen firings on
# probes of a tiny model that forgets, 0.01 to 0.25, half of them below 0.13, on SmolLM2's quickstart (eval/LOG.md). A
# run says at its end what its own probes could show.
TYPICAL_SPREAD = 0.1
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


def power_findings(config: CampusConfig, rows: Mapping[str, int]) -> Iterator[Finding]:
    """The smallest rise of a domain's loss that the rule of regressions would find in 80 of 100 cases.

    From thirty rows on that is about a tenth and less; what acts on fewer is warned of by `probe_findings`.

    Args:
        config: settings.
        rows: domain of the probes → how many of its rows are measured.
    """
    rule = next((one for one in config.rules(has_probes=True) if isinstance(one, Regression)), None)
    if rule is None or not rows:
        return
    level = rule.level(len(rows))
    shown = {
        name: smallest_rise(n, TYPICAL_SPREAD, over=rule.over, level=level, hold=rule.hold) for name, n in rows.items()
    }
    told = listed([f"{name} {rise:.0%} ({rows[name]} rows)" for name, rise in sorted(shown.items())], 8)
    what = (
        f"The smallest rises of a loss that the probes can show, where single rows change by {TYPICAL_SPREAD:.0%} more "
        f"or less than their domain: {told}. Smaller ones pass unseen."
    )
    yield Finding("info", what)

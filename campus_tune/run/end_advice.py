"""What a run advises at its end: what it has seen of its rows, held against the table of what helps when."""

from __future__ import annotations

from campus_tune.method.dirt import Dirt
from campus_tune.preview.earned_advice import Signs, earned_advice
from campus_tune.preview.evidence import evidence
from campus_tune.run.data_map import domains_to_tell
from campus_tune.run.situation import Situation
from campus_tune.run.told.events import Warned
from campus_tune.words.errors import CampusError
from campus_tune.words.types import Json


def advise(now: Situation, mapped: Json) -> list[Json]:
    """The lines of advice of a run that is over, each with the rows of the table that it rests on.

    Args:
        now: the run.
        mapped: what the ledger says of its map.
    """
    try:
        return [advice.record() for advice in earned_advice(signs_of(now, mapped), evidence())]
    except CampusError as error:  # the table is damaged: what was trained is whole
        now.journal.take(Warned([f"no advice: {error}"]))
        return []


def signs_of(now: Situation, mapped: Json) -> Signs:
    """What a run knows of its rows at its end.

    Args:
        now: the run.
        mapped: what the ledger says of its map; of a run without one, neither wrong nor repeating rows are known.
    """
    n_rows, regions = len(now.loaded.rows), mapped.get("regions", {})
    domains = domains_to_tell(now)
    return Signs(
        rows=n_rows,
        epochs=sum(now.curriculum.coverage_counts()) / max(1, n_rows),
        domains=dict(domains.sizes()) if domains.names else {},
        dirt=Dirt.from_mapping(mapped["dirt"]) if mapped.get("dirt") else None,
        repeated=regions.get("duplicate", 0) / max(1, n_rows),
        contradicting=regions.get("contradicting", 0) / max(1, n_rows),
        probe_losses={name: one["loss"] for name, one in now.probing.report.items() if one.get("loss") is not None},
        config=now.config,
    )

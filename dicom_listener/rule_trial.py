"""What changed rules would have decided about the studies of the past days: nothing is written, nothing is queued.

The headers in the spool are read once more, with the rules of today and with the changed ones, so that the answer is
about the rules alone and not about what was configured when a study came.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from db import studies
from db.session import Record
from dicom_core.errors import SpoolError
from dicom_core.routing import Rule
from dicom_core.rule_explanation import outcome_of
from dicom_core.spool import Spool
from dicom_core.study import StoredSeries
from dicom_listener.series_rules import SeriesRules


@dataclass(frozen=True, slots=True)
class Decision:
    """What rules make of one series.

    Attributes:
        rule: Its name, "" for none.
        segments: Whether the series is segmented.
        outcome: In words.
    """

    rule: str
    segments: bool
    outcome: str


@dataclass(frozen=True, slots=True)
class ChangedSeries:
    """A series about which the rules differ."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    calling_ae_title: str
    now: Decision
    then: Decision


@dataclass(slots=True)
class Trial:
    """What a dry run found.

    Attributes:
        studies: How many were looked at.
        series: How many series these have.
        same: Of how many the rules decide the same.
        unknown: Of how many the files are gone.
        changed: The others.
        segmented_now: How many the rules of today segment, by rule.
        segmented_then: How many the changed rules segment, by rule.
        unused: Changed rules that decided about no series.
    """

    studies: int = 0
    series: int = 0
    same: int = 0
    unknown: int = 0
    changed: list[ChangedSeries] = field(default_factory=list)
    segmented_now: Counter[str] = field(default_factory=Counter)
    segmented_then: Counter[str] = field(default_factory=Counter)
    unused: tuple[str, ...] = ()


def try_rules(
    record: Record,
    spool: Spool,
    today: Sequence[Rule],
    changed: Sequence[Rule],
    *,
    days: float,
    most_studies: int,
    progress: Callable[[int], None] = lambda _done: None,
) -> Trial:
    """Decide about every series of the past days with the rules of today and with the changed ones.

    Args:
        record: Read only.
        spool: Where the stored files are.
        today: The rules in force.
        changed: Those that are to be tried.
        days: How far back.
        most_studies: The newest ones, if there are more.
        progress: Called with the number of studies that have been looked at.

    Raises:
        UnavailableError: The record does not answer.
    """
    now, then = SeriesRules(today, spool), SeriesRules(changed, spool)
    trial, used = Trial(), set[str]()
    for found in studies.recent_series(record, record.now() - timedelta(days=days), most_studies):
        trial.studies += 1
        for series in found:
            _compare(trial, series, _decision(now, series), _decision(then, series), used)
        progress(trial.studies)
    trial.unused = tuple(rule.name for rule in changed if rule.name not in used)
    return trial


def _compare(trial: Trial, series: StoredSeries, now: Decision | None, then: Decision | None, used: set[str]) -> None:
    trial.series += 1
    if now is None or then is None:
        trial.unknown += 1
        return
    used.add(then.rule)
    for decision, counted in ((now, trial.segmented_now), (then, trial.segmented_then)):
        if decision.segments:
            counted[decision.rule] += 1
    if now == then:
        trial.same += 1
        return
    trial.changed.append(
        ChangedSeries(
            series.study_instance_uid, series.series_instance_uid, series.modality, series.calling_ae_title, now, then
        )
    )


def _decision(rules: SeriesRules, series: StoredSeries) -> Decision | None:
    """None where the files that it would be taken from are gone."""
    if not series.instances or series.absent:
        return None
    try:
        rule, reason = rules.decide(series)
    except SpoolError:
        return None
    if rule is None or reason:
        return Decision(rule.name if rule else "", False, f"left out: {reason}")
    return Decision(rule.name, True, outcome_of(rule))

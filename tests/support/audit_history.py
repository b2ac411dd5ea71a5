"""A made-up history of a hospital: rows of the record for bulk inserts, as the processes of a site would have written.

::

    history = History(rows=200_000)
    for tables in history.batches(500):       # {"audit_events": [(...), ...], "studies": [...], ...}
        ...                                   # columns as in TABLES
    history.studies[0], history.people        # what may be asked for afterwards

The stories of fifty studies overlap at any time. Hashes are random: the chain does not hold.
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from db.audit import Event

Rows = dict[str, list[tuple[Any, ...]]]

TABLES: dict[str, tuple[str, ...]] = {
    "audit_events": (
        "sequence", "at", "event", "event_id", "event_type", "action", "outcome", "process", "user", "ae_title",
        "address", "study_instance_uid", "job_id", "detail", "previous_hash", "row_hash",
    ),
    "studies": (
        "study_instance_uid", "state", "generation", "first_received_at", "last_received_at", "revision",
        "completed_at", "close_requested", "patient_hash",
    ),
    "jobs": (
        "job_id", "study_instance_uid", "series_instance_uid", "generation", "modality", "rule", "segmenter", "prompt",
        "destinations", "priority", "input_hash", "configuration_hash", "calling_ae_title", "peer_address", "state",
        "reason", "attempts", "fence", "lease_owner", "queue_key", "created_at", "updated_at", "started_at",
        "finished_at", "model", "model_version", "result",
    ),
    "results": (
        "result_id", "job_id", "place", "kind", "part", "item", "path", "sha256", "sop_class_uid", "sop_instance_uid",
        "series_instance_uid", "size_bytes",
    ),
    "deliveries": (
        "delivery_id", "job_id", "result_id", "place", "destination", "lane", "state", "attempts", "refusals", "fence",
        "answer", "lease_owner", "next_try_at", "created_at", "finished_at",
    ),
}  # fmt: skip
_AT_ONCE = 50
_ROWS_OF_A_STUDY = 13.1
_SECONDS_BETWEEN = 86.4
_BEGIN = datetime(2024, 11, 21, tzinfo=UTC)
_E = Event


class History:
    """Draws the rows; the same for the same arguments.

    Attributes:
        sequence: How many audit events there are so far.
        begin: Time of the first.
        end: Time of the last.
        studies, jobs, patients: Identifiers so far.
        people, ae_titles, addresses, events, models: What occurs, frequent and rare.
    """

    def __init__(self, rows: int, seed: int = 67) -> None:
        self._random = random.Random(seed)
        self._wanted = max(1, round(rows / _ROWS_OF_A_STUDY))
        self.sequence = 0
        self.begin = self.end = _BEGIN
        self.studies: list[str] = []
        self.jobs: list[str] = []
        self.patients: list[str] = []
        self.people = [f"person{number:02}" for number in range(60)]
        self.ae_titles = [f"MODALITY{number:02}" for number in range(40)]
        self.addresses = [f"192.0.2.{number}" for number in range(40)]
        self.events = [event.word for event in Event]
        self.models = [*((name, f"1.{minor}") for name in ("vesselnet", "ridge") for minor in range(6)), ("sam", "2")]

    def batches(self, studies_at_once: int) -> Iterator[Rows]:
        """All rows, table by table, parts of the history after the other."""
        batch: Rows = {name: [] for name in TABLES}
        for begin in range(0, self._wanted, _AT_ONCE):
            told: list[tuple[Any, ...]] = []
            for number in range(begin, min(begin + _AT_ONCE, self._wanted)):
                told += self._story(number, batch)
            for row in sorted(told, key=lambda row: row[0]):
                batch["audit_events"].append(self._audit_row(*row))
            if (begin // _AT_ONCE + 1) * _AT_ONCE % studies_at_once == 0:
                yield batch
                batch = {name: [] for name in TABLES}
        yield batch

    def _hexadecimal(self, digits: int) -> str:
        return self._random.randbytes(digits // 2).hex()

    def _audit_row(
        self, at: datetime, event: Event, outcome: int, user: str, peer: int, study: str, job: str, detail: Any
    ) -> tuple[Any, ...]:
        self.sequence += 1
        self.end = max(self.end, at)
        return (
            self.sequence, f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z", event.word, event.event_id,
            event.event_type, event.action, outcome, "worker/4f1c2d3e", user, self.ae_titles[peer] if peer >= 0 else "",
            self.addresses[peer] if peer >= 0 else "", study, job, json.dumps(detail), self._hexadecimal(64),
            self._hexadecimal(64),
        )  # fmt: skip

    def _story(self, number: int, batch: Rows) -> list[tuple[Any, ...]]:
        draw = self._random
        at = self.begin + timedelta(seconds=number * _SECONDS_BETWEEN + draw.random() * 3000)
        study, job = f"2.25.{draw.getrandbits(127)}", self._hexadecimal(32)
        self.studies.append(study)
        self.jobs.append(job)
        if not self.patients or draw.random() < 0.4:
            self.patients.append(self._hexadecimal(64))
        peer = min(int(draw.expovariate(0.12)), len(self.ae_titles) - 1)
        fate = draw.choices(("done", "skipped", "no vessel", "failed"), (89, 6, 3, 2))[0]
        self._add_study(batch, study, at)
        self._add_job(batch, study, job, at, fate, peer, number)
        told = [
            (_E.STUDY_RECEIVING, 0, "", peer, "", {"patient_hash": self.patients[-1]}),
            (_E.INSTANCES_RECEIVED, 0, "", peer, "", {"stored": 120, "duplicates": 0, "conflicts": 0, "bytes": 63e6}),
            (_E.STUDY_COMPLETE, 0, "", -1, "", {"generation": 1, "series": 1, "instances": 120}),
            *((event, outcome, "", -1, job, detail) for event, outcome, detail in _work(fate, draw)),
            *((_E.STUDY_VIEWED, 0, self._person(), -1, "", {"by": "web"}) for _ in range(draw.randrange(5))),
        ]
        if draw.random() < 0.1:
            told.append((_E.PRIORITY_CHANGED, 0, self._person(), -1, job, {"from": 0, "to": 100, "reason": "stroke"}))
        moments = sorted(draw.random() * 1500 for _ in told)
        rows = [
            (at + timedelta(seconds=moment), event, outcome, user, by, study, of_job, detail)
            for moment, (event, outcome, user, by, of_job, detail) in zip(moments, told, strict=True)
        ]
        return [*rows, *self._noise(at)]

    def _person(self) -> str:
        return self.people[min(int(self._random.expovariate(0.08)), len(self.people) - 1)]

    def _noise(self, at: datetime) -> Iterator[tuple[Any, ...]]:
        draw = self._random
        for share, event, outcome in (
            (0.3, _E.SIGNED_IN, 0), (0.2, _E.SIGNED_OUT, 0), (0.01, _E.SIGNED_IN, 4), (0.02, _E.ACCESS_REFUSED, 4),
            (0.05, _E.AUDIT_READ, 0), (0.001, _E.ROLES_CHANGED, 0),
        ):  # fmt: skip
            if draw.random() < share:
                yield at, event, outcome, self._person(), -1, "", "", {}
        if draw.random() < 0.05:
            yield at, _E.ASSOCIATION_REFUSED, 4, "", draw.randrange(30), "", "", {"reason": "calling AE not known"}

    def _add_study(self, batch: Rows, study: str, at: datetime) -> None:
        # several studies of one patient lie apart in time
        patient = self._random.choice(self.patients) if self._random.random() < 0.6 else self.patients[-1]
        batch["studies"].append((study, "COMPLETE", 1, at, at, 120, at, False, patient))

    def _add_job(self, batch: Rows, study: str, job: str, at: datetime, fate: str, peer: int, number: int) -> None:
        # each version of the main model is in use for a time, the other models all the time
        main = min(5, number * 6 // self._wanted)
        model = self.models[main if self._random.random() < 0.9 else self._random.randrange(6, len(self.models))]
        model = ("", "") if fate in ("skipped", "failed") else model
        state = {"done": "DONE", "skipped": "SKIPPED", "no vessel": "NO_VESSEL_FOUND", "failed": "FAILED"}[fate]
        done = at + timedelta(minutes=20)
        batch["jobs"].append((
            job, study, f"{study}.1", 1, "CT", "all", "ridge", "", '["pacs"]', 0, "0" * 64, "0" * 64,
            self.ae_titles[peer], self.addresses[peer], state, "made up", 1, 1, "", at.timestamp(), at, done, at, done,
            *model, "{}",
        ))  # fmt: skip
        if fate == "done":
            result, uid = self._hexadecimal(32), f"2.25.{self._random.getrandbits(127)}"
            batch["results"].append(
                (result, job, 1, "seg", 1, 1, f"{job}/seg.dcm", "0" * 64, "1.2.840.10008.5.1.4.1.1.66.4", uid, uid, 1)
            )
            batch["deliveries"].append(
                (self._hexadecimal(32), job, result, 1, "pacs", "pacs", "SENT", 1, 0, 1, "0x0000", "", at, at, done)
            )


def _work(fate: str, draw: random.Random) -> Iterator[tuple[Event, int, dict[str, Any]]]:
    """What the log tells of a job."""
    if fate == "skipped":
        yield _E.JOB_SKIPPED, 0, {"reason": "no rule wants it"}
        return
    yield _E.JOB_QUEUED, 0, {"rule": "all", "segmenter": "ridge", "priority": 0}
    yield _E.JOB_RUNNING, 0, {"attempt": 1, "worker": "worker/4f1c"}
    if fate == "failed":
        yield from ((_E.JOB_ATTEMPT_FAILED, 4, {"reason": "made up", "attempt": attempt}) for attempt in (1, 2))
        yield _E.JOB_FAILED, 8, {"reason": "made up"}
    elif fate == "no vessel":
        yield _E.JOB_NO_VESSEL_FOUND, 0, {"model": "vesselnet", "model_version": "1.0"}
    else:
        yield _E.SEG_CREATED, 0, {"model": "vesselnet", "model_version": "1.0", "objects": [{"kind": "seg"}]}
        yield _E.TRANSFER_BEGUN, 0, {"destination": "pacs", "attempt": 1}
        yield _E.JOB_STATE, 0, {"from": "SEG_READY", "to": "SENDING"}
        if draw.random() < 0.02:
            yield _E.TRANSFER_FAILED, 4, {"destination": "pacs", "answer": "0xA700"}
        yield _E.INSTANCES_SENT, 0, {"destination": "pacs", "answer": "0x0000"}
        yield from ((_E.JOB_STATE, 0, {"from": "SENDING", "to": state}) for state in ("SENT", "DONE"))

"""Random interleavings of everything that can happen to studies, jobs and deliveries never break the invariants.

The machine plays listener, dispatcher, workers that may vanish, destinations that may refuse, an operator who cancels
and retries, and a clock that jumps. Its model knows who holds which claim; the audit log must tell every change of a
state, once. At the end of each play all hands work until nothing is due, and everything must have come to an end.
"""

import pytest
from databases import empty_tables
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from record_story import association, instance, kept, listener, requests
from sqlalchemy import select

from db import audit, deliveries, job_actions, jobs, processes, register, retention, studies
from db.models import AuditEvent, DeliveryRow, JobRow, ResultRow, Study
from db.session import Record
from dicom_core.errors import ConflictError, LeaseLostError
from dicom_core.job import FINISHED, TRANSITIONS, Delivery, DeliveryState, Job, JobState
from dicom_core.result import ResultKind
from dicom_core.study import AssociationOutcome, StudyState

LEASE, GIVE_UP, ATTEMPTS, PAUSE = 60.0, 72.0, 3, 5.0
UNDER_WAY = {DeliveryState.WAITING, DeliveryState.SENDING}
ACTIVE = {JobState.QUEUED, JobState.RUNNING, JobState.SEG_READY}
DEEDS = ["beat", "keep", "nothing", "fail", "fail for good", "hand back"]
numbers = st.integers(0, 9)


class Interleavings(RuleBasedStateMachine):
    """One study of two series, two destinations."""

    record: Record
    clock: "Clock"  # noqa: F821  of tests/support/databases.py

    def __init__(self) -> None:
        super().__init__()
        empty_tables(self.record)
        self.listener = listener(self.record)
        self.open = association(self.listener)
        self.claims: list[Job] = []
        self.holds: dict[str, int] = {}
        self.sends: list[Delivery] = []
        self.carries: dict[str, int] = {}
        self.told: dict[str, JobState] = {}
        self.read_up_to = 0
        self.built: dict[str, str] = {}

    @initialize(depth=st.integers(0, 3))
    def begin(self, depth: int) -> None:
        """There is always a study; most plays begin with jobs, claims or transfers that stand already."""
        for series in (1, 2):
            self.receive(series, 1, other_content=False)
        if depth > 0:
            self.a_worker_has_a_job()
        if depth > 1:
            self.a_result_is_on_its_way()
        if depth > 2:
            self.a_worker_has_a_job()

    # the listener

    @rule(series=st.integers(1, 2), number=st.integers(1, 3), other_content=st.booleans())
    def receive(self, series: int, number: int, other_content: bool) -> None:
        """An instance comes: new, again, with other bytes, late."""
        register.record_instances(
            self.record, [instance(self.open, number, series=series, content="other" if other_content else "")]
        )

    @rule(released=st.booleans())
    def end_association(self, released: bool) -> None:
        """The association ends, another one is opened."""
        register.close_association(
            self.record, self.open, AssociationOutcome.RELEASED if released else AssociationOutcome.ABORTED
        )
        self.open = association(self.listener)

    @rule(number=st.integers(1, 3))
    def lose_file(self, number: int) -> None:
        """A file of the spool is found missing."""
        register.mark_missing(self.record, instance(self.open, number).sop_instance_uid, "gone")

    # the dispatcher

    @rule(skip=st.integers(0, 5))
    def complete(self, skip: int) -> None:
        """Quiet studies become jobs; now and then no rule wants them."""
        for quiet in studies.quiet_studies(self.record, 0):
            wanted = requests(
                quiet,
                destinations=("pacs", "archive"),
                skip="no rule" if skip == 0 else "",
                wanted={"archive": (ResultKind.SEG, ResultKind.REPORT)},
            )
            for job in studies.complete(self.record, quiet, wanted):
                self._replaced(job)

    def _replaced(self, new: Job) -> None:
        for claim in self.claims:
            if claim.series_instance_uid == new.series_instance_uid:
                self.holds.pop(claim.job_id, None)

    @rule()
    def reap(self) -> None:
        """Work is taken from the silent; whoever is not expired keeps it."""
        with self.record.reading() as session:
            now = self.record.now()
            silent_jobs = session.scalars(
                select(JobRow.job_id).where(JobRow.state == JobState.RUNNING, JobRow.lease_expires_at < now)
            ).all()
            silent_sends = session.scalars(
                select(DeliveryRow.delivery_id).where(
                    DeliveryRow.state == DeliveryState.SENDING, DeliveryRow.lease_expires_at < now
                )
            ).all()
        assert jobs.reap_expired(self.record, ATTEMPTS, PAUSE) >= len(silent_jobs)
        assert deliveries.reap_expired(self.record, GIVE_UP) >= len(silent_sends)
        for job_id in silent_jobs:
            self.holds.pop(job_id, None)
        for delivery_id in silent_sends:
            self.carries.pop(delivery_id, None)

    @rule()
    def purge(self) -> None:
        """Six weeks later what is over loses its sources."""
        self.clock.advance(42 * 86400)
        self.reap()
        for study in retention.purge_sources(self.record, 30):
            retention.remove_purged(self.record, study, lambda _: None)

    @rule(seconds=st.sampled_from([1, 6, 31, 61, 1000, -5]))
    def wait(self, seconds: int) -> None:
        """Time goes on, or the clock is set back a little."""
        self.clock.advance(seconds)
        processes.beat(self.record, self.listener)

    # workers; a worker that vanishes is a claim that nobody uses again

    @rule()
    def claim(self) -> None:
        """A worker takes a job that nobody holds."""
        job = jobs.claim(self.record, "worker", LEASE)
        if job is not None:
            assert job.job_id not in self.holds
            self.claims.append(job)
            self.holds[job.job_id] = job.fence

    @precondition(lambda self: self.claims)
    @rule(which=st.integers(0, 2), what=st.sampled_from(DEEDS))
    def work(self, which: int, what: str) -> None:
        """Somebody who holds or once held a job does something: refused exactly when the claim is old."""
        job = self.claims[-1 - which % len(self.claims)]
        held = self.holds.get(job.job_id) == job.fence
        try:
            self._do(job, what)
        except LeaseLostError:
            assert not held, f"{what} of a claim that stands was refused"
            return
        assert held, f"{what} of an old claim was not refused"
        if what != "beat":
            del self.holds[job.job_id]

    def _do(self, job: Job, what: str) -> None:
        if what == "beat":
            jobs.heartbeat(self.record, job, LEASE)
        elif what == "keep":
            jobs.keep_result(self.record, job, kept(job))
        elif what == "nothing":
            jobs.finish_without_result(self.record, job, JobState.NO_VESSEL_FOUND, "nothing found", {})
        elif what == "hand back":
            jobs.hand_back(self.record, job, "told to stop")
        else:
            jobs.fail_attempt(
                self.record,
                job,
                "bad luck",
                retryable=what == "fail",
                maximum_attempts=ATTEMPTS,
                retry_after_seconds=PAUSE,
            )

    @rule()
    def claim_delivery(self) -> None:
        """A worker takes a delivery that nobody holds."""
        delivery = deliveries.claim(self.record, "worker", LEASE)
        if delivery is not None:
            assert delivery.delivery_id not in self.carries
            self.sends.append(delivery)
            self.carries[delivery.delivery_id] = delivery.fence

    @precondition(lambda self: self.sends)
    @rule(which=st.integers(0, 2), what=st.sampled_from(["beat", "sent", "fail", "refused", "hand back"]))
    def send(self, which: int, what: str) -> None:
        """The same for deliveries."""
        delivery = self.sends[-1 - which % len(self.sends)]
        held = self.carries.get(delivery.delivery_id) == delivery.fence
        try:
            if what == "beat":
                deliveries.heartbeat(self.record, delivery, LEASE)
            elif what == "sent":
                deliveries.sent(self.record, delivery, "0x0000")
            elif what == "hand back":
                deliveries.hand_back(self.record, delivery)
            else:
                deliveries.failed(
                    self.record, delivery, "0xA700", retryable=what == "fail", give_up_after_hours=GIVE_UP
                )
        except LeaseLostError:
            assert not held, f"{what} of a delivery that is held was refused"
            return
        assert held, f"{what} of an old delivery was not refused"
        if what != "beat":
            del self.carries[delivery.delivery_id]

    # short ways into the depth

    @rule()
    def a_worker_has_a_job(self) -> None:
        """The study becomes quiet and a worker begins."""
        self.end_association(released=True)
        self.complete(skip=1)
        self.claim()

    @rule()
    def a_result_is_on_its_way(self) -> None:
        """The last claim ends well and a worker begins to send."""
        self.a_worker_has_a_job()
        self.work(0, "keep")
        self.claim_delivery()

    @rule(what=st.sampled_from(DEEDS))
    def a_worker_vanishes(self, what: str) -> None:
        """Its lease runs out, its work is taken by another one, then it comes back."""
        self.clock.advance(61)
        self.reap()
        self.clock.advance(6)
        self.claim()
        self.claim_delivery()
        self.old_workers_come_back(what)

    @rule(series=st.integers(1, 2), number=st.integers(4, 9))
    def a_late_instance_replaces_jobs(self, series: int, number: int) -> None:
        """More of a series comes while its job is in any state."""
        self.receive(series, number, other_content=False)
        self.end_association(released=True)
        self.complete(skip=1)

    @rule()
    def a_destination_refuses_for_good(self) -> None:
        """Three times, until nobody tries it any more."""
        for _ in range(6):
            self.clock.advance(1000)
            self.claim_delivery()
            if self.sends:
                self.send(0, "refused")

    @rule(what=st.sampled_from(DEEDS))
    def old_workers_come_back(self, what: str) -> None:
        """Everybody who lost a job tries to go on with it."""
        for which, job in enumerate(reversed(self.claims)):
            if self.holds.get(job.job_id) != job.fence:
                self.work(which, what)

    @rule()
    def workers_are_told_to_stop(self) -> None:
        """They hand back what they hold; others take it."""
        for which, job in enumerate(reversed(self.claims)):
            if self.holds.get(job.job_id) == job.fence:
                self.work(which, "hand back")
        self.claim()

    @rule()
    def an_operator_stops_and_starts_everything(self) -> None:
        """Every job is cancelled where that is allowed, then retried."""
        self.every_change_was_told_once()
        for again in (False, True):
            for which in range(len(self.told)):
                self.interfere(which, "retry" if again else "cancel")

    # the operator

    @rule(which=numbers, wish=st.sampled_from(["cancel", "retry", "resend", "hurry"]))
    def interfere(self, which: int, wish: str) -> None:
        """Cancel, retry, resend or hurry any job; what its state does not allow changes nothing."""
        known = sorted(self.told)
        if not known:
            return
        job_id = known[which % len(known)]
        try:
            if wish == "retry":
                job_actions.retry(self.record, job_id, "again")
            elif wish == "resend":
                job_actions.resend(self.record, job_id, "lost there", "pacs" if which % 2 else "")
            elif wish == "hurry":
                job_actions.change_priority(self.record, job_id, 10 * which, "soon")
            else:
                job_actions.cancel(self.record, job_id, "stop")
        except ConflictError:
            return
        self.holds.pop(job_id, None)
        for delivery in self.sends:
            if delivery.job_id == job_id:
                self.carries.pop(delivery.delivery_id, None)

    # what must always be true

    @invariant()
    def every_change_was_told_once(self) -> None:
        """The audit rows, read in order, lead each job along allowed arrows to the state that it has."""
        with self.record.reading() as session:
            rows = session.scalars(
                select(AuditEvent).where(AuditEvent.sequence > self.read_up_to).order_by(AuditEvent.sequence)
            ).all()
            states = dict(session.execute(select(JobRow.job_id, JobRow.state)).all())
        for row in rows:
            self.read_up_to = row.sequence
            if "to" in row.detail:
                before, after = JobState(row.detail["from"]), JobState(row.detail["to"])
                assert self.told[row.job_id] is before
                assert after in TRANSITIONS[before]
                self.told[row.job_id] = after
            elif row.event in ("job-queued", "job-skipped"):
                assert row.job_id not in self.told
                self.told[row.job_id] = JobState.SKIPPED if row.event == "job-skipped" else JobState.QUEUED
        assert states == self.told

    @invariant()
    def one_current_job_a_series(self) -> None:
        """Of one series at most one job is waiting, running or ready, and it is the newest."""
        with self.record.reading() as session:
            rows = session.scalars(select(JobRow).order_by(JobRow.generation)).all()
        newest = {row.series_instance_uid: row.job_id for row in rows}
        active = [row for row in rows if row.state in ACTIVE]
        assert {row.job_id for row in active} <= set(newest.values())
        for row in rows:
            assert (row.state == JobState.RUNNING) == (row.lease_expires_at is not None)
            assert (row.state in FINISHED) == (row.finished_at is not None)

    @invariant()
    def deliveries_fit_their_jobs(self) -> None:
        """Nothing is under way for a finished job, something is for a job that is ready or being sent; lanes hold."""
        with self.record.reading() as session:
            pairs = session.execute(select(DeliveryRow, JobRow).join(JobRow, JobRow.job_id == DeliveryRow.job_id)).all()
            results = session.scalars(select(ResultRow)).all()
        lanes = [row.lane for row, _ in pairs if row.state == DeliveryState.SENDING]
        assert len(lanes) == len(set(lanes))
        for result in results:
            assert self.built.setdefault(result.sop_instance_uid, result.sha256) == result.sha256
        for row, job in pairs:
            assert row.state not in UNDER_WAY or job.state in (JobState.SEG_READY, JobState.SENDING)
        for job in {job.job_id: job for _, job in pairs}.values():
            states = {row.state for row, other in pairs if other.job_id == job.job_id}
            assert bool(states & UNDER_WAY) == (job.state in (JobState.SEG_READY, JobState.SENDING))
            assert job.state not in (JobState.DONE, JobState.PURGED) or states == {DeliveryState.SENT}

    def teardown(self) -> None:
        """All hands work until nothing is due; then every study is complete, every job at an end, the chain whole."""
        if self.read_up_to:
            self._come_to_an_end()
        found = audit.verify(self.record)
        assert found.first_bad_sequence is None, found

    def _come_to_an_end(self) -> None:
        self.end_association(released=True)
        for _ in range(4):
            self.clock.advance(5000)
            self.reap()
            self.complete(skip=1)
            while (job := jobs.claim(self.record, "worker", LEASE)) is not None:
                jobs.keep_result(self.record, job, kept(job))
            while (delivery := deliveries.claim(self.record, "worker", LEASE)) is not None:
                deliveries.sent(self.record, delivery, "0x0000")
        self.every_change_was_told_once()
        with self.record.reading() as session:
            assert set(session.scalars(select(Study.state))) <= {StudyState.COMPLETE}
        assert set(self.told.values()) <= FINISHED


@pytest.mark.timeout(120)
def test_random_interleavings_keep_the_invariants(record, clock):
    """Bounded here to a few seconds; more examples have been played by hand."""
    Interleavings.record, Interleavings.clock = record, clock
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=40 if record.engine.dialect.name == "sqlite" else 8,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # shrinking a failure takes minutes; a play has few steps
            suppress_health_check=list(HealthCheck),
        ),
    )

"""The table of transitions is sound."""

from dicom_core.job import (
    CANCELLABLE,
    FINISHED,
    RESENDABLE,
    RETRYABLE_BY_OPERATOR,
    TRANSITIONS,
    DeliveryState,
    JobState,
)

FIRST = {JobState.QUEUED, JobState.SKIPPED}
BY_HAND_OR_POLICY = {JobState.QUEUED, JobState.SENDING, JobState.PURGED, JobState.SUPERSEDED}


def test_every_state_has_its_arrows():
    """No state is missing from the table, and no arrow leads to itself."""
    assert set(TRANSITIONS) == set(JobState)
    assert all(state not in after for state, after in TRANSITIONS.items())


def test_every_state_can_be_reached():
    """From a new job."""
    reached, found = set(), set(FIRST)
    while found:
        reached |= found
        found = {after for state in found for after in TRANSITIONS[state]} - reached
    assert reached == set(JobState)


def test_every_unfinished_state_can_come_to_an_end():
    """From each of them a path leads to a finished state, and to CANCELLED or DONE without an operator's retry."""
    for state in set(JobState) - FINISHED:
        reached, found = set(), {state}
        while found:
            reached |= found
            found = {after for one in found - FINISHED for after in TRANSITIONS[one]} - reached
        assert reached & FINISHED, state


def test_finished_states_are_left_by_hand_or_policy_only():
    """Retry (QUEUED, SENDING), retention (PURGED), a newer generation (SUPERSEDED)."""
    for state in FINISHED:
        assert TRANSITIONS[state] <= BY_HAND_OR_POLICY, state
    assert TRANSITIONS[JobState.PURGED] == frozenset()


def test_what_an_operator_may_do_is_in_the_table():
    """CANCELLABLE states, and only those, have the arrow to CANCELLED; retryable and resendable ones a way back."""
    assert {state for state in JobState if JobState.CANCELLED in TRANSITIONS[state]} == CANCELLABLE
    assert RETRYABLE_BY_OPERATOR <= FINISHED
    for state in RETRYABLE_BY_OPERATOR:
        assert TRANSITIONS[state] & {JobState.QUEUED, JobState.SENDING}
    assert not CANCELLABLE & FINISHED
    assert all(JobState.SENDING in TRANSITIONS[state] for state in RESENDABLE)


def test_a_superseded_job_never_comes_back():
    """Its generation is over."""
    assert TRANSITIONS[JobState.SUPERSEDED] == {JobState.PURGED}


def test_names_are_what_is_stored():
    """Columns hold the names; they fit 16 characters."""
    for state in (*JobState, *DeliveryState):
        assert state.value == state.name
        assert len(state.value) <= 16

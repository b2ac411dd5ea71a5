"""The private names of pynetdicom that the association server uses, and the one change to its state machine."""

from types import SimpleNamespace

import pytest
from hostile_peer import associate_request
from pynetdicom import fsm
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from dicom_listener.pynetdicom_internals import Internals, PatientStateMachine, missing


def _association() -> Association:
    return Association(ApplicationEntity("VESSELQ"), "acceptor")


def test_nothing_is_missing() -> None:
    """This release of pynetdicom has every private name that is used.

    When this fails after an upgrade: adapt ``dicom_listener/pynetdicom_internals.py`` to the names below; until then
    sites can set ``listener.data_path = "pynetdicom"``.
    """
    assert missing(_association()) == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method, an attribute and a transition that are gone are told by name."""
    association = _association()
    monkeypatch.delattr("pynetdicom.dul.DULServiceProvider._decode_pdu")
    monkeypatch.delattr(association.dul, "_recv_pdu")
    monkeypatch.delitem(fsm.TRANSITION_TABLE, ("Evt18", "Sta2"))
    assert missing(association) == [
        "pynetdicom.dul.DULServiceProvider._decode_pdu",
        "DULServiceProvider()._recv_pdu",
        "TRANSITION_TABLE[('Evt18', 'Sta2')]",
    ]


def test_an_answer_after_the_abort_is_dropped() -> None:
    """A P-DATA request in Sta13, for which PS3.8 table 9-10 has no entry, goes without an exception."""
    association = _association()
    internals = Internals(association)
    association.dul.state_machine.current_state = "Sta13"
    association.dul.send_pdu(P_DATA())
    assert internals.act()
    assert association.dul.to_provider_queue.empty()
    assert not internals.act()
    assert internals.state == "Sta13"


def test_other_impossible_events_stay_errors() -> None:
    """Only primitives of the local user may come too late."""
    machine = PatientStateMachine(SimpleNamespace())
    with pytest.raises(fsm.InvalidEventError):
        machine.do_action("Evt10")


@pytest.mark.parametrize("pdu", [b"\x01\0\0\0\0\x04abcd", b"\x04\0\0\0\0\x03abc", b"\x07\0\0\0\0\x01a"])
def test_what_cannot_be_decoded_is_an_invalid_pdu(pdu: bytes) -> None:
    """Damaged PDUs become Evt19, or an event that the state machine can refuse; nothing is raised."""
    internals = Internals(_association())
    internals.take(pdu)
    assert internals.events.get_nowait() in ("Evt19", "Evt10", "Evt6", "Evt16")


def test_the_same_request_is_decoded_once() -> None:
    """A modality that opens an association an image costs one decoding; another request is another."""
    request = associate_request(contexts=[(f"1.2.3.{number}", ("1.2.840.10008.1.2",)) for number in range(20)])
    received = []
    for sent in (request, request, associate_request()):
        internals = Internals(_association())
        internals.take(sent)
        assert internals.events.get_nowait() == "Evt6"
        received.append(internals._dul._recv_pdu.get_nowait())
    assert received[0] is received[1]
    assert [len(pdu.to_primitive().presentation_context_definition_list) for pdu in received] == [20, 20, 1]

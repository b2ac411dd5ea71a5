"""The private names of pynetdicom that the association server uses, and the one change to its state machine."""

from types import SimpleNamespace

import pytest
from hostile_peer import associate_request
from pynetdicom import evt, fsm
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import build_context

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
    monkeypatch.delattr(association, "_rejected_cx")
    monkeypatch.delitem(fsm.TRANSITION_TABLE, ("Evt18", "Sta2"))
    assert missing(association) == [
        "pynetdicom.dul.DULServiceProvider._decode_pdu",
        "DULServiceProvider()._recv_pdu",
        "Association()._rejected_cx",
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


class _Line:
    """Where a connection would be."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        """Nothing to close."""


def _negotiated(entity: ApplicationEntity, request: bytes, told: list[bool]) -> tuple[Association, bytes]:
    """An association that was asked for by ``request``, and the answer to it."""
    association = Association(entity, "acceptor")
    association.acceptor.ae_title = entity.ae_title
    association.acceptor.maximum_length = 65536
    association.acceptor.implementation_class_uid = "1.2.3"
    association.acceptor.supported_contexts = [build_context("1.2.3.1"), build_context("1.2.3.2")]
    association.bind(evt.EVT_ESTABLISHED, lambda event: told.append(event.assoc.is_established))
    internals = Internals(association)
    association.dul.socket = line = _Line()
    internals.events.put("Evt5")
    internals.take(request)
    while internals.act():
        pass
    association.requestor.primitive = internals.indication()
    internals.negotiate()
    while internals.act():
        pass
    assert internals.state == "Sta6"
    (answer,) = line.sent
    return association, answer


def test_the_same_request_is_negotiated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second association gets the same bytes, has the same contexts, and is told of as the first was."""
    entity, told = ApplicationEntity("VESSELQ"), []
    request = associate_request(contexts=[(f"1.2.3.{number}", ("1.2.840.10008.1.2",)) for number in (1, 7, 2)])
    first, answer = _negotiated(entity, request, told)
    assert [context.abstract_syntax for context in first.accepted_contexts] == ["1.2.3.1", "1.2.3.2"]
    assert [context.abstract_syntax for context in first.rejected_contexts] == ["1.2.3.7"]
    with monkeypatch.context() as patch:
        patch.delattr("pynetdicom.acse.ACSE.negotiate_association")
        second, same = _negotiated(entity, request, told)
    assert same == answer
    assert answer[0] == 2
    assert second.accepted_contexts == first.accepted_contexts
    assert second.rejected_contexts == first.rejected_contexts
    assert second.requestor.ae_title == first.requestor.ae_title
    assert second.is_established
    assert told == [True, True]


def test_another_server_answers_for_itself() -> None:
    """What one accepts says nothing about what the other does, in one process as well."""
    request = associate_request(contexts=[("1.2.3.1", ("1.2.840.10008.1.2",))])
    answers = []
    for number in (1, 2):
        entity = ApplicationEntity("VESSELQ")
        entity.implementation_version_name = f"SERVER {number}"
        association, _ = _negotiated(entity, request, [])
        answers.append(association.acceptor.primitive)
    assert answers[0] is not answers[1]
    assert None not in answers

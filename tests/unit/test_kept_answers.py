"""Answers that pynetdicom's own thread takes away from the sender that waits for them."""

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, C_STORE

from dicom_core.kept_answers import keep_answers

CONTEXT = 3


def requestor() -> Association:
    """An association of a sender, without connection."""
    return Association(ApplicationEntity("VESSELQ"), "requestor")


def store_answer() -> C_STORE:
    """0x0000 for the first message."""
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo = 1
    answer.Status = 0x0000
    return answer


def test_pynetdicom_drops_an_answer_that_its_own_thread_took() -> None:
    """What is mended here: when this fails, pynetdicom has mended it, and ``dicom_core.kept_answers`` can go."""
    association = requestor()
    association._serve_request(store_answer(), CONTEXT)
    assert association.dimse.msg_queue.empty()


def test_an_answer_that_its_own_thread_took_reaches_the_sender() -> None:
    """It is put back with its presentation context, for the sender that waits."""
    association, answer = requestor(), store_answer()
    keep_answers(association)
    association._serve_request(answer, CONTEXT)
    assert association.dimse.get_msg(block=False) == (CONTEXT, answer)


def test_requests_of_the_peer_are_served_as_before() -> None:
    """A request is not put back: pynetdicom's own method gets it."""
    association = requestor()
    served: list[tuple[object, int]] = []
    association._serve_request = lambda message, context_id: served.append((message, context_id))
    keep_answers(association)
    request = C_ECHO()
    request.MessageID = 1
    request.AffectedSOPClassUID = "1.2.840.10008.1.1"
    association._serve_request(request, CONTEXT)
    assert served == [(request, CONTEXT)]
    assert association.dimse.msg_queue.empty()

"""Answers of a peer reach whoever waits for them, whatever thread of pynetdicom reads them first.

pynetdicom's requestor has a thread of its own that looks for requests of the peer; it is told to pause while somebody
waits for an answer. Where the machine is busy it may have been told too late: then it takes the answer, finds that it
is no request and drops it, and the sender waits in vain until its time is over, for an object that is stored.
"""

from typing import Any


def keep_answers(association: Any) -> None:
    """Have an association that we requested put answers back that its own thread took.

    Args:
        association: A ``pynetdicom.association.Association``; before its first message is sent.
    """
    serve = association._serve_request  # noqa: SLF001  pynetdicom has no public place for this

    def serve_or_put_back(message: Any, context_id: int) -> None:
        if message.is_valid_response:
            association.dimse.msg_queue.put((context_id, message))
        else:
            serve(message, context_id)

    association._serve_request = serve_or_put_back  # noqa: SLF001

"""All names of pynetdicom that are not part of its public interface and that the association server uses.

``missing`` and its test name what is gone when a new release changes them. The setting ``listener.data_path =
"pynetdicom"`` needs far fewer of them.
"""

import queue
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

IDLE, AWAITING_REQUEST, ESTABLISHED, AWAITING_CLOSE = "Sta1", "Sta2", "Sta6", "Sta13"
"""States of PS3.8 section 9.2.3 that an acceptor waits in, and the one that it ends in."""
CONNECTION_CLOSED, ARTIM_EXPIRED, INVALID_PDU = "Evt17", "Evt18", "Evt19"
"""Events of PS3.8 table 9-10."""
_OF_THE_USER = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
"""Events that are primitives of the local user."""
_ASSOCIATE_RQ, _REQUEST_CAME = 1, "Evt6"
_LARGEST_KNOWN_BYTES = 32 * 1024
_METHODS = (
    (DULServiceProvider, ("_process_recv_primitive", "_decode_pdu", "_send", "send_pdu")),
    (DIMSEServiceProvider, ("receive_primitive", "get_msg")),
    (Association, ("_serve_request", "run_reactor", "kill", "abort", "accepted_contexts", "rejected_contexts")),
    (StateMachine, ("do_action", "transition")),
)
_ASSOCIATION_ATTRIBUTES = ("_accepted_cx", "_rejected_cx")
_DUL_ATTRIBUTES = ("event_queue", "to_provider_queue", "to_user_queue", "_recv_pdu", "socket", "state_machine")


def missing(association: Association) -> list[str]:
    """What of all that is used here is not there any more."""
    gone = [
        f"{owner.__module__}.{owner.__name__}.{name}"
        for owner, names in _METHODS
        for name in names
        if not hasattr(owner, name)
    ]
    gone += [f"DULServiceProvider().{name}" for name in _DUL_ATTRIBUTES if not hasattr(association.dul, name)]
    gone += [f"Association().{name}" for name in _ASSOCIATION_ATTRIBUTES if not hasattr(association, name)]
    transitions = (
        ("Evt5", IDLE), (CONNECTION_CLOSED, ESTABLISHED), (ARTIM_EXPIRED, AWAITING_REQUEST),
        (ARTIM_EXPIRED, AWAITING_CLOSE), (INVALID_PDU, ESTABLISHED), ("Evt15", ESTABLISHED),
    )  # fmt: skip
    return gone + [f"TRANSITION_TABLE[{pair}]" for pair in transitions if pair not in TRANSITION_TABLE]


class PatientStateMachine(StateMachine):  # type: ignore[misc]  # pynetdicom is not typed for us
    """A state machine for which an answer that comes after the end of the association is no error.

    Whoever answers and whoever aborts are two: the answer may be in the queue when the abort has been sent (P-DATA
    request in Sta13, for which PS3.8 table 9-10 has no entry). Nobody waits for it any more, so it is dropped.
    """

    def do_action(self, event: str) -> None:
        """Carry out what PS3.8 table 9-10 has for ``event`` in the current state."""
        if event in _OF_THE_USER and (event, self.current_state) not in TRANSITION_TABLE:
            self.dul.to_provider_queue.get_nowait()
            return
        super().do_action(event)


class Internals:
    """One association's upper layer, driven from outside instead of by its own threads."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._dul = association.dul
        self._dul.state_machine = PatientStateMachine(self._dul)

    @property
    def events(self) -> "queue.Queue[str]":
        """Where events of the connection go."""
        events: queue.Queue[str] = self._dul.event_queue
        return events

    @property
    def state(self) -> str:
        """The current state of PS3.8 section 9.2."""
        return str(self._dul.state_machine.current_state)

    def act(self) -> bool:
        """Carry out the next event or the next primitive of the user; False when there is none."""
        if self.events.empty() and not self._dul._process_recv_primitive():
            return False
        self._dul.state_machine.do_action(self.events.get_nowait())
        return True

    def indication(self) -> Any:
        """The next primitive for the user (PS3.8 section 7), None without one."""
        return self._dul.receive_pdu(wait=False)

    def negotiate(self) -> None:
        """Answer the request for the association: the same one as last time with the same answer."""
        association = self._association
        request: A_ASSOCIATE = association.requestor.primitive
        answer = _ANSWERS.get(request)
        if answer is None or answer.entity is not association.ae:
            association.acse.negotiate_association()
            if association.is_established:
                _ANSWERS[request] = _Answer.given(association)
            return
        association.requestor.ae_title = request.calling_ae_title
        association._accepted_cx, association._rejected_cx = answer.accepted, answer.rejected
        association.is_established = True
        evt.trigger(association, evt.EVT_ESTABLISHED, {})
        self._dul.state_machine.transition(ESTABLISHED)
        self._dul.socket.send(answer.pdu)

    def serve(self) -> bool:
        """Answer the next message that is no C-STORE; False when there is none."""
        context_id, message = self._association.dimse.get_msg(block=False)
        if message is None:
            return False
        self._association._serve_request(message, context_id)
        return True

    def take(self, pdu: bytes) -> None:
        """Decode a PDU and note the event that it is; what cannot be decoded is an invalid one."""
        try:
            decoded, event = self._decoded(pdu)
        except Exception:  # noqa: BLE001  the edge: any bytes may come
            self.events.put(INVALID_PDU)
            return
        self._dul._recv_pdu.put(decoded)
        self.events.put(event)

    def _decoded(self, pdu: bytes) -> tuple[Any, str]:
        if pdu[0] == _ASSOCIATE_RQ and len(pdu) <= _LARGEST_KNOWN_BYTES:
            return _request(pdu), _REQUEST_CAME
        decoded, event = self._dul._decode_pdu(bytearray(pdu))
        return _convertible(decoded), event


@lru_cache(maxsize=16)
def _request(pdu: bytes) -> A_ASSOCIATE_RQ:
    """A decoded A-ASSOCIATE-RQ, which is only read.

    A modality that opens an association for each image sends the same one every time, and to decode a hundred
    presentation contexts takes longer than to store an image.
    """
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(pdu)
    return _convertible(decoded)


def _convertible(pdu: Any) -> Any:
    """Have the primitive of a PDU made now: an error within the state machine costs the association its answer."""
    primitive = pdu.to_primitive()
    pdu.to_primitive = lambda: primitive
    return pdu


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a request was accepted with: nothing but its bytes and who we are decides about that."""

    entity: ApplicationEntity
    accepted: dict[int, PresentationContext]
    rejected: list[PresentationContext]
    pdu: bytes

    @classmethod
    def given(cls, association: Association) -> "_Answer":
        """The answer of an association that was just accepted."""
        pdu = A_ASSOCIATE_AC(association.acceptor.primitive).encode()
        return cls(association.ae, association._accepted_cx, association._rejected_cx, pdu)


_ANSWERS: WeakKeyDictionary[A_ASSOCIATE, _Answer] = WeakKeyDictionary()
"""Of requests that ``_request`` still knows: a hundred contexts take longer to negotiate than an image to store."""

"""A sender that behaves like a PACS: what was not acknowledged is sent again until it is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import store_scu
from loopback import is_listening
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO


@dataclass
class SteadySender:
    """Sends datasets over as many associations as it takes.

    Attributes:
        port: Of the listener.
        acknowledged: Hash of what was sent, by SOP Instance UID, for everything that got 0x0000.
        tries: Associations that were asked for.
    """

    port: int
    acknowledged: dict[str, str] = field(default_factory=dict)
    tries: int = 0

    def send(self, datasets: Sequence[Dataset], *, seconds: float = 60) -> None:
        """Send until everything is acknowledged.

        Raises:
            AssertionError: That did not happen in time.
        """
        end = time.monotonic() + seconds
        waiting = list(datasets)
        while waiting:
            assert time.monotonic() < end, f"{len(waiting)} objects were not taken in {seconds} s"
            self.tries += 1
            self._one_association(waiting)
            waiting = [dataset for dataset in waiting if str(dataset.SOPInstanceUID) not in self.acknowledged]
            if waiting:
                time.sleep(0.2)

    def _one_association(self, datasets: Sequence[Dataset]) -> None:
        if not is_listening(self.port):
            return
        first = datasets[0]
        contexts = [(str(first.SOPClassUID), [str(first.file_meta.TransferSyntaxUID)])]
        with store_scu.association(self.port, contexts=contexts) as opened:
            if not opened.is_established:
                return
            for dataset in datasets:
                data = data_set_bytes(dataset)
                try:
                    answer = store_scu.store(
                        opened, str(dataset.SOPInstanceUID), data, sop_class=str(dataset.SOPClassUID)
                    )
                except (RuntimeError, OSError, IndexError, AttributeError):
                    return  # the association broke in the middle
                if answer.status != 0:
                    return
                self.acknowledged[str(dataset.SOPInstanceUID)] = store_scu.fingerprint(data)


def data_set_bytes(dataset: Dataset) -> bytes:
    """The data set as it goes over the wire, without preamble and file meta information."""
    buffer = DicomBytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    content = buffer.getvalue()
    return bytes(content[144 + int.from_bytes(content[140:144], "little") :])

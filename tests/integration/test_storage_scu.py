"""C-STORE as a destination against Storage SCPs that do what the test tells them."""

import contextlib
import copy
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from loopback import LOOPBACK, free_port, start_process, stop_process, wait_for_port, wait_until
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom.transport import AssociationSocket
from scripted_scp import RawPeer, ScriptedSCP, association_rejection
from segmentation_files import SegmentationFile, segmentation_file

from dicom_core.errors import PermanentDeliveryError, TransientDeliveryError
from dicom_core.setting_tables import StorageSCUSettings
from worker.destinations import storage_scu
from worker.destinations.storage_scu import StorageSCU

# pynetdicom 3.0.4 does not close the socket of a refused connection; the garbage collector does (_shutdown_socket).
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning"
)
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
STORESCP = shutil.which("storescp")


def scu_to(port: int, *, timeout_seconds: float = 5, **settings: Any) -> StorageSCU:
    return StorageSCU(
        StorageSCUSettings(
            kind="storage_scu",
            name="pacs",
            ae_title="RESULTS",
            host=LOOPBACK,
            port=port,
            timeout_seconds=timeout_seconds,
            **settings,
        ),
        own_ae_title="VESSELQ",
    )


@pytest.fixture
def result(tmp_path: Path) -> SegmentationFile:
    return segmentation_file(tmp_path)


@pytest.fixture
def closing() -> Iterator[list[StorageSCU]]:
    """Destinations that are closed after the test, whatever happens."""
    opened: list[StorageSCU] = []
    yield opened
    for destination in opened:
        destination.close()


def test_the_peer_gets_the_bytes_of_the_file(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """The data set goes out bit for bit, explicit VR, under our AE title."""
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port))
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
    assert [received.data_set for received in scp.received] == [result.data_set()]
    assert scp.received[0].sop_instance_uid == result.sop_instance_uid
    assert scp.received[0].transfer_syntax_uid == ExplicitVRLittleEndian
    assert scp.calling_ae_titles == ["VESSELQ"]


def test_the_calling_ae_title_of_the_settings_wins(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """A destination can know us under another name than the listener's."""
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port, calling_ae_title="SEGMENTS"))
        destination.send(result.path, **result.uids)
    assert scp.calling_ae_titles == ["SEGMENTS"]


def test_an_implicit_only_peer_gets_equal_pixels(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """The file is explicit; for a peer that accepts only implicit VR it is encoded again, with equal values."""
    with ScriptedSCP(transfer_syntaxes=[ImplicitVRLittleEndian]) as scp:
        closing.append(destination := scu_to(scp.port))
        destination.send(result.path, **result.uids)
    received = scp.received[0]
    assert received.transfer_syntax_uid == ImplicitVRLittleEndian
    assert received.data_set != result.data_set()
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(received.data_set), force=True)
    assert dataset.PixelData == result.pixel_data
    original = pydicom.dcmread(result.path)
    assert {element.tag for element in dataset} == {element.tag for element in original}
    assert dataset.SeriesInstanceUID == original.SeriesInstanceUID


def compressed(folder: Path, syntax: str, sop_class_uid: str = SegmentationStorage) -> tuple[Path, pydicom.Dataset]:
    """A FRACTIONAL segmentation in a lossless transfer syntax, and what is in it."""
    dataset = pydicom.dcmread(segmentation_file(folder).path)
    dataset.SOPClassUID = sop_class_uid
    dataset.SegmentationType = "FRACTIONAL"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = bytes(range(256)) * 32  # two frames of 64 by 64
    original = copy.deepcopy(dataset)
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    path = folder / "compressed.dcm"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path, original


def uids_of(dataset: pydicom.Dataset) -> dict[str, str]:
    keywords = {
        "sop_instance_uid": "SOPInstanceUID", "study_instance_uid": "StudyInstanceUID",
        "series_instance_uid": "SeriesInstanceUID",
    }  # fmt: skip
    return {name: str(dataset[keyword].value) for name, keyword in keywords.items()}


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_a_peer_that_knows_the_compression_gets_the_bytes(
    tmp_path: Path, closing: list[StorageSCU], syntax: str
) -> None:
    """Nothing is decoded on the way."""
    path, original = compressed(tmp_path, syntax)
    with ScriptedSCP(transfer_syntaxes=[syntax, ImplicitVRLittleEndian]) as scp:
        closing.append(destination := scu_to(scp.port))
        assert destination.send(path, **uids_of(original)) == "0x0000 stored"
    assert scp.received[0].transfer_syntax_uid == syntax
    assert path.read_bytes().endswith(scp.received[0].data_set)


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("accepted", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_another_peer_gets_equal_pixels_uncompressed(
    tmp_path: Path, closing: list[StorageSCU], syntax: str, accepted: str
) -> None:
    """The same object under the same UID, and the answer says what happened."""
    path, original = compressed(tmp_path, syntax)
    with ScriptedSCP(transfer_syntaxes=[accepted]) as scp:
        closing.append(destination := scu_to(scp.port))
        answer = destination.send(path, **uids_of(original))
    assert answer == f"0x0000 stored; sent uncompressed, {syntax.name} is not accepted"
    received = scp.received[0]
    assert received.transfer_syntax_uid == accepted
    assert received.sop_instance_uid == original.SOPInstanceUID
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(received.data_set), force=True)
    assert dataset.PixelData == original.PixelData
    assert dataset.SOPInstanceUID == original.SOPInstanceUID
    assert {element.tag for element in dataset} == {element.tag for element in original}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_peer_without_label_maps_is_told_in_words(tmp_path: Path, closing: list[StorageSCU], syntax: str) -> None:
    """For good, and the sentence names class and setting; the association serves the next object."""
    path, original = compressed(tmp_path, syntax, LABEL_MAP)
    other = segmentation_file(tmp_path)
    with ScriptedSCP(sop_classes=[SegmentationStorage]) as scp:
        closing.append(destination := scu_to(scp.port))
        with pytest.raises(PermanentDeliveryError, match=r"no Label Map Segmentation Storage; .* out of results"):
            destination.send(path, **uids_of(original))
        assert destination.send(other.path, **other.uids) == "0x0000 stored"
    assert scp.associations == 1


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0107, 0x0111])
def test_warnings_and_duplicates_count_as_stored(
    result: SegmentationFile, closing: list[StorageSCU], status: int
) -> None:
    """The object is there; the words keep what the peer said."""
    with ScriptedSCP([status]) as scp:
        closing.append(destination := scu_to(scp.port))
        assert destination.send(result.path, **result.uids).startswith(f"0x{status:04X} ")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xA700, TransientDeliveryError),
        (0xA7FF, TransientDeliveryError),
        (0x0110, TransientDeliveryError),
        (0x0213, TransientDeliveryError),
        (0xA900, PermanentDeliveryError),
        (0xC000, PermanentDeliveryError),
        (0xCFFF, PermanentDeliveryError),
        (0x0117, PermanentDeliveryError),
        (0x0122, PermanentDeliveryError),
        (0x0124, PermanentDeliveryError),
    ],
)
def test_failures_have_the_right_class_and_keep_the_association(
    result: SegmentationFile,
    closing: list[StorageSCU],
    status: int,
    error: type[TransientDeliveryError | PermanentDeliveryError],
) -> None:
    """A refusal is an answer: the error carries it, and the next object goes over the same association."""
    with ScriptedSCP([status, 0x0000]) as scp:
        closing.append(destination := scu_to(scp.port))
        with pytest.raises(error, match=f"0x{status:04X}") as caught:
            destination.send(result.path, **result.uids)
        assert caught.value.status == status
        destination.send(result.path, **result.uids)
    assert scp.associations == 1


def test_an_abort_during_the_first_store_is_transient(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """Over a fresh association there is no second try in the same call, and the next call works."""
    with ScriptedSCP(["abort", 0x0000]) as scp:
        closing.append(destination := scu_to(scp.port))
        with pytest.raises(TransientDeliveryError, match="ended the association"):
            destination.send(result.path, **result.uids)
        assert scp.associations == 1
        assert destination.send(result.path, **result.uids) == "0x0000 stored"


def test_an_abort_on_a_warm_association_is_tried_again_once(
    result: SegmentationFile, closing: list[StorageSCU]
) -> None:
    """A warm association can be stale, so one fresh association decides; a second abort is transient."""
    with ScriptedSCP([0x0000, "abort", 0x0000, "abort", "abort", 0x0000]) as scp:
        closing.append(destination := scu_to(scp.port))
        destination.send(result.path, **result.uids)
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
        assert scp.associations == 2
        with pytest.raises(TransientDeliveryError):
            destination.send(result.path, **result.uids)
        assert scp.associations == 3


def test_a_peer_that_never_answers_is_transient_in_time(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """The DIMSE time-out ends the wait, once: no second try that would wait again."""
    with ScriptedSCP(["hang"]) as scp:
        closing.append(destination := scu_to(scp.port, timeout_seconds=0.5))
        began = time.monotonic()
        with pytest.raises(TransientDeliveryError, match="did not answer"):
            destination.send(result.path, **result.uids)
        assert 0.5 <= time.monotonic() - began < 4
        assert len(scp.received) == 1


@pytest.mark.skipif(STORESCP is None, reason="storescp is not installed (apt-get install dcmtk)")
@pytest.mark.parametrize("frames", [2, 96], ids=["small", "larger-than-the-tcp-window"])
def test_a_frozen_dcmtk_peer_is_transient_in_time(tmp_path: Path, closing: list[StorageSCU], frames: int) -> None:
    """A peer that stops reading in the middle (SIGSTOP) cannot block the sender, whatever fits into its buffers."""
    result = segmentation_file(tmp_path, frames=frames, size=1024)
    port = free_port()
    process = start_process([STORESCP or "", "--ignore", str(port)], log_file=tmp_path / "storescp.log")
    try:
        wait_for_port(port, process=process)
        closing.append(destination := scu_to(port, timeout_seconds=0.5))
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TransientDeliveryError):
            destination.send(result.path, **result.uids)
        longest = 0.5 + result.path.stat().st_size / storage_scu._SLOWEST_BYTES_PER_SECOND
        assert time.monotonic() - began < 3 * longest + 2
    finally:
        process.send_signal(signal.SIGCONT)
        stop_process(process)


def test_nobody_listens(result: SegmentationFile) -> None:
    """No connection is transient, and the text says where."""
    port = free_port()
    with pytest.raises(TransientDeliveryError, match=f"RESULTS at 127.0.0.1:{port} does not answer") as caught:
        scu_to(port).send(result.path, **result.uids)
    assert caught.value.status is None


def test_an_unknown_name_is_transient(result: SegmentationFile) -> None:
    """A name server that is down comes back; the text says what to check."""
    destination = StorageSCU.for_sender("RESULTS", "nowhere.invalid", 104, name="sender", own_ae_title="VESSELQ")
    with pytest.raises(TransientDeliveryError, match="check host"):
        destination.send(result.path, **result.uids)


@pytest.mark.parametrize(
    ("rejection", "error", "words"),
    [
        ((1, 1, 7), PermanentDeliveryError, "Called AE title not recognised"),
        ((1, 1, 3), PermanentDeliveryError, "Calling AE title not recognised"),
        ((1, 2, 2), PermanentDeliveryError, "Protocol version"),
        ((2, 1, 1), TransientDeliveryError, "No reason given"),
        ((2, 3, 1), TransientDeliveryError, "Temporary congestion"),
        ((1, 3, 2), TransientDeliveryError, "Local limit exceeded"),
    ],
)
def test_rejections(
    result: SegmentationFile, rejection: tuple[int, int, int], error: type[Exception], words: str
) -> None:
    """The peer's result decides, but congestion and limits pass whatever it says; the reason is in the text."""
    with RawPeer(association_rejection(*rejection)) as peer, pytest.raises(error, match=words):
        scu_to(peer.port).send(result.path, **result.uids)


def test_a_very_fast_rejection_is_still_a_rejection(result: SegmentationFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer has answered and closed before the sending thread wakes up, which pynetdicom takes for no connection."""

    class SlowToWake(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            woken = super().wait(timeout)
            time.sleep(0.2)
            return woken

    begin = AssociationSocket.__init__

    def begin_slowly(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self._ready = SlowToWake()

    monkeypatch.setattr(AssociationSocket, "__init__", begin_slowly)
    with (
        RawPeer(association_rejection(1, 1, 7)) as peer,
        pytest.raises(PermanentDeliveryError, match="Called AE title not recognised"),
    ):
        scu_to(peer.port).send(result.path, **result.uids)


def test_a_wrong_called_ae_title_is_permanent(result: SegmentationFile) -> None:
    """As a real SCP says it."""
    with (
        ScriptedSCP(ae_title="OTHER", called_ae_title_required=True) as scp,
        pytest.raises(PermanentDeliveryError, match="Called AE title"),
    ):
        scu_to(scp.port).send(result.path, **result.uids)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"], ids=["silence", "not DICOM"])
def test_a_peer_that_does_not_speak_dicom_is_transient(result: SegmentationFile, answer: bytes) -> None:
    """The ACSE time-out ends silence; anything else that is no answer is an abort."""
    began = time.monotonic()
    with RawPeer(answer) as peer, pytest.raises(TransientDeliveryError):
        scu_to(peer.port, timeout_seconds=0.5).send(result.path, **result.uids)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "sop_classes", [["1.2.840.10008.5.1.4.1.1.7"], ["1.2.840.10008.5.1.4.1.1.2"]], ids=["another", "none"]
)
def test_no_accepted_context_is_permanent(
    result: SegmentationFile, closing: list[StorageSCU], sop_classes: list[str]
) -> None:
    """The peer takes no Segmentation Storage: with an association for other classes, or without any."""
    with ScriptedSCP(sop_classes=sop_classes) as scp:
        closing.append(destination := scu_to(scp.port))
        with pytest.raises(PermanentDeliveryError, match="accepts no"):
            destination.send(result.path, **result.uids)
        assert scp.received == []


def test_compressed_files_go_out_as_they_are_where_offered(tmp_path: Path, closing: list[StorageSCU]) -> None:
    """Whoever sends other objects names them; what cannot be sent as it is, is not sent in disguise."""
    jpeg_ls = str(pydicom.uid.JPEGLSLossless)
    result = segmentation_file(tmp_path)
    dataset = pydicom.dcmread(result.path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\x00" * 64])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(result.path)
    with ScriptedSCP(transfer_syntaxes=[jpeg_ls, *storage_scu._UNCOMPRESSED]) as scp:
        closing.append(plain := scu_to(scp.port))
        with pytest.raises(PermanentDeliveryError, match="JPEG-LS Lossless"):
            plain.send(result.path, **result.uids)
        settings = StorageSCUSettings(kind="storage_scu", name="x", ae_title="RESULTS", host=LOOPBACK, port=scp.port)
        offered = [(SegmentationStorage, jpeg_ls)]
        closing.append(offering := StorageSCU(settings, own_ae_title="VESSELQ", offered=offered))
        offering.send(result.path, **result.uids)
    assert scp.received[0].transfer_syntax_uid == jpeg_ls
    assert scp.received[0].data_set == result.data_set()


def test_objects_share_one_association(tmp_path: Path, closing: list[StorageSCU]) -> None:
    """Ten objects in a row need one association."""
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port))
        for _ in range(10):
            result = segmentation_file(tmp_path)
            destination.send(result.path, **result.uids)
    assert scp.associations == 1
    assert len({received.sop_instance_uid for received in scp.received}) == 10


def test_threads_do_not_share_an_association_at_the_same_time(tmp_path: Path, closing: list[StorageSCU]) -> None:
    """Forty objects from eight threads all arrive whole, over few associations.

    pynetdicom 3.0.4 can lose an answer when a process is very busy (its reactor takes it from the queue before it has
    noticed that it is paused); that ends in the time-out, and as for every transient error the caller tries again.
    """
    results = [segmentation_file(tmp_path, frames=8) for _ in range(40)]

    def deliver(result: SegmentationFile) -> str:
        for _ in range(3):
            with contextlib.suppress(TransientDeliveryError):
                return destination.send(result.path, **result.uids)
        return "gave up"

    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port, timeout_seconds=3))
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(deliver, results))
        assert set(answers) == {"0x0000 stored"}
        assert 1 <= scp.associations <= 20
        wait_until(lambda: scp.open_associations() <= storage_scu._MAXIMUM_IDLE, "the release of the others")
    assert {received.data_set for received in scp.received} == {result.data_set() for result in results}


def test_an_idle_association_is_released(
    result: SegmentationFile, closing: list[StorageSCU], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's slot is held for longer than the idle time."""
    monkeypatch.setattr(storage_scu, "IDLE_SECONDS", 0.3)
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port))
        destination.send(result.path, **result.uids)
        assert scp.open_associations() == 1
        wait_until(lambda: scp.open_associations() == 0, "the release", timeout_seconds=3)
        destination.send(result.path, **result.uids)
        assert scp.associations == 2


def test_close_releases_and_sending_again_works(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """Nothing stays open after close, no thread either; the destination can still be used."""
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port))
        destination.send(result.path, **result.uids)
        destination.close()
        wait_until(lambda: scp.open_associations() == 0, "the release", timeout_seconds=3)
        assert destination.send(result.path, **result.uids) == "0x0000 stored"


def test_a_restarted_peer_is_found_again(result: SegmentationFile, closing: list[StorageSCU]) -> None:
    """The warm association of before the restart costs nothing; while the peer is down, it is transient."""
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port))
        destination.send(result.path, **result.uids)
        scp.stop()
        with pytest.raises(TransientDeliveryError):
            destination.send(result.path, **result.uids)
        scp.start()
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
        scp.stop()
        scp.start()
        assert destination.send(result.path, **result.uids) == "0x0000 stored"


def test_bad_files_are_permanent(tmp_path: Path, closing: list[StorageSCU], result: SegmentationFile) -> None:
    """A missing file, one that is no DICOM and one that holds another instance are told before anything is sent."""
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    with ScriptedSCP() as scp:
        closing.append(destination := scu_to(scp.port))
        with pytest.raises(PermanentDeliveryError, match="is missing"):
            destination.send(tmp_path / "gone.dcm", **result.uids)
        with pytest.raises(PermanentDeliveryError, match="not a DICOM file"):
            destination.send(text, **result.uids)
        with pytest.raises(PermanentDeliveryError, match=r"does not hold the instance 1\.2\.3"):
            destination.send(result.path, **{**result.uids, "sop_instance_uid": "1.2.3"})
    assert scp.associations == 0


def test_check_is_a_c_echo() -> None:
    """Alive, refusing the calling AE, saying no, dead: each has its answer; nothing stays open."""
    with ScriptedSCP() as scp:
        assert scu_to(scp.port).check() == "0x0000 C-ECHO"
        wait_until(lambda: scp.open_associations() == 0, "the release", timeout_seconds=3)
    with ScriptedSCP(echo_status=0x0122) as scp, pytest.raises(PermanentDeliveryError, match="0x0122"):
        scu_to(scp.port).check()
    with ScriptedSCP(sop_classes=[SegmentationStorage]) as scp, pytest.raises(PermanentDeliveryError):
        scu_to(scp.port).check()
    with pytest.raises(TransientDeliveryError):
        scu_to(free_port()).check()


def test_describe_names_the_peer() -> None:
    """For logs and lists."""
    assert scu_to(104).describe() == "Storage SCP RESULTS at 127.0.0.1:104"

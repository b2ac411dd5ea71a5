"""`vesselq send` and C-ECHO against DCMTK's storescp and against the small SCP of the demonstration."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dicom_sources
import pytest
from loopback import free_port, start_process, stop_process, wait_for_port
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid
from typer.testing import CliRunner

from console.cli import app
from dicom_core.errors import NotFoundError, UnavailableError
from dicom_listener import storage_scu
from dicom_listener.result_folder import ResultFolder
from dicom_listener.storage_scu import Receiver, find_dicom_files, send_files, verify

STORESCP = shutil.which("storescp")
# pynetdicom lets go of a refused connection without closing it
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning"
)
needs_dcmtk = pytest.mark.skipif(STORESCP is None, reason="DCMTK is not installed (apt-get install dcmtk)")


@pytest.fixture
def received(tmp_path: Path) -> Path:
    folder = tmp_path / "received"
    folder.mkdir()
    return folder


@pytest.fixture
def port(tmp_path: Path, received: Path) -> Iterator[int]:
    """Of a storescp that takes everything as it comes."""
    port = free_port()
    arguments = [STORESCP or "", "--accept-all", "--bit-preserving", "-od", received, "-aet", "PACS", str(port)]
    process = start_process(arguments, log_file=tmp_path / "storescp.log")
    wait_for_port(port, process=process)
    yield port
    stop_process(process)


def data_set(path: Path) -> bytes:
    """The bytes behind the File Meta Information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def by_uid(folder: Path) -> dict[str, Path]:
    return {
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in folder.rglob("*") if path.is_file()
    }


def jpeg(folder: Path) -> Path:
    """An object in a compressed transfer syntax; its pixels are never looked at on the way."""
    dataset = dicom_sources.sc(colour=True)[0]
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return dicom_sources.save([dataset], folder)[0]


@needs_dcmtk
def test_files_arrive_byte_for_byte(tmp_path: Path, port: int, received: Path) -> None:
    """Uncompressed and compressed objects of several classes arrive over one association as they were stored."""
    source = tmp_path / "source"
    dicom_sources.save(dicom_sources.ct_series(frames=3), source / "ct")
    dicom_sources.save(dicom_sources.xa_run(frames=3), source / "xa")
    jpeg(source / "jpeg")
    (source / "note.txt").write_text("no image")
    arguments = ["send", str(source), "--to", f"127.0.0.1:{port}", "--called", "PACS", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer == {"files": 5, "sent": 5, "not_dicom": 1, "statuses": {"0x0000": 5}, "problems": []}
    sent, stored = by_uid(source / "ct") | by_uid(source / "xa") | by_uid(source / "jpeg"), by_uid(received)
    assert sent.keys() == stored.keys()
    for uid, path in sent.items():
        assert data_set(stored[uid]) == data_set(path)


@needs_dcmtk
def test_more_contexts_than_an_association_holds(
    tmp_path: Path, port: int, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that need more presentation contexts than fit are sent over several associations."""
    monkeypatch.setattr(storage_scu, "CONTEXTS_PER_ASSOCIATION", 1)
    dicom_sources.save(dicom_sources.ct_series(frames=2), tmp_path / "a")
    dicom_sources.save(dicom_sources.xa_run(frames=2), tmp_path / "b")
    files, others = find_dicom_files([tmp_path / "a", tmp_path / "b"])
    seen: list[int] = []
    report = send_files(files, Receiver("127.0.0.1", port, "PACS"), progress=seen.append)
    assert (report.sent, report.problems, others) == (3, [], 0)
    assert seen == [1, 2, 3]
    assert len(by_uid(received)) == 3


@needs_dcmtk
def test_echo(port: int) -> None:
    """C-ECHO of a living SCP gives its time."""
    assert 0 < verify(Receiver("127.0.0.1", port, "PACS")) < 10


def test_nobody_listens(tmp_path: Path) -> None:
    """`send` and C-ECHO to a closed port end with 3 and a sentence that names the receiver."""
    port = free_port()
    file = dicom_sources.save(dicom_sources.xa_still(), tmp_path)[0]
    arguments = ["send", str(file), "--to", f"127.0.0.1:{port}", "--called", "PACS", "--timeout", "5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3
    assert f"PACS at 127.0.0.1:{port} does not answer" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(UnavailableError):
        verify(Receiver("127.0.0.1", port, "PACS", timeout_seconds=2))


def test_a_class_that_is_not_taken(tmp_path: Path) -> None:
    """The small SCP takes segmentations alone: other objects are named with the reason, exit code 1."""
    port = free_port()
    files = dicom_sources.save(dicom_sources.xa_still(), tmp_path / "in")
    with ResultFolder(tmp_path / "out", ae_title="RESULTS", port=port):
        arguments = ["send", str(files[0]), "--to", f"127.0.0.1:{port}", "--called", "RESULTS"]
        result = CliRunner().invoke(app, arguments)
        assert verify(Receiver("127.0.0.1", port, "RESULTS")) < 10
    assert result.exit_code == 1, "an answer, though it is no"
    assert "SOP class" in result.stderr


def test_wrong_called_ae_title(tmp_path: Path) -> None:
    """A refused association is an answer: told with its reason, exit code 1."""
    port = free_port()
    file = dicom_sources.save(dicom_sources.xa_still(), tmp_path / "in")[0]
    with ResultFolder(tmp_path / "out", ae_title="RESULTS", port=port):
        arguments = ["send", str(file), "--to", f"127.0.0.1:{port}", "--called", "SOMEBODY"]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "refuses the association" in result.stderr
    assert "alled AE" in result.stderr


def test_one_object_is_refused(tmp_path: Path) -> None:
    """A failure status for one object among others ends with 1 and names its file."""
    port = free_port()
    good = segmentation(tmp_path / "good")
    other = dicom_sources.save(dicom_sources.xa_still(), tmp_path / "other")[0]
    with ResultFolder(tmp_path / "out", ae_title="RESULTS", port=port):
        arguments = ["send", str(good), str(other), "--to", f"127.0.0.1:{port}", "--called", "RESULTS"]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "1 of 2 objects" in result.stdout
    assert str(other) in result.stderr
    assert str(good) not in result.stderr


def segmentation(folder: Path) -> Path:
    """An object of the class Segmentation Storage; the small SCP looks no deeper."""
    dataset = dicom_sources.sc()[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return dicom_sources.save([dataset], folder)[0]


def test_result_folder_files_what_it_is_sent(tmp_path: Path) -> None:
    """The small SCP writes each object under its UID, unchanged; the same again replaces it."""
    port = free_port()
    file = segmentation(tmp_path / "in")
    uid = str(dcmread(file).SOPInstanceUID)
    with ResultFolder(tmp_path / "out", ae_title="RESULTS", port=port) as folder:
        for _ in range(2):
            report = send_files(find_dicom_files([file])[0], Receiver("127.0.0.1", port, "RESULTS"))
            assert (report.sent, report.problems) == (1, [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{uid}.dcm"]
    assert data_set(folder.path(uid)) == data_set(file)


def test_find_dicom_files(tmp_path: Path) -> None:
    """Files are found by content, not by name; directories of media are left out."""
    file = dicom_sources.save(dicom_sources.xa_still(), tmp_path / "deep" / "er")[0]
    file.rename(file.with_suffix(".without"))
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "short.dcm").write_bytes(bytes(128) + b"DICM\x02\x00")
    found, others = find_dicom_files([tmp_path])
    assert [one.path for one in found] == [file.with_suffix(".without")]
    assert others == 2
    with pytest.raises(NotFoundError, match="does not exist"):
        find_dicom_files([tmp_path / "missing"])

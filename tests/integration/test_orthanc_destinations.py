"""C-STORE and STOW-RS to a real Orthanc: what was sent is there, found by QIDO-RS, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import orthanc_server
import pydicom
import pytest
from loopback import is_listening
from orthanc_server import Orthanc
from segmentation_files import SegmentationFile, segmentation_file

from dicom_core.errors import PermanentDeliveryError, TransientDeliveryError
from dicom_core.setting_tables import PeerSettings, StorageSCUSettings, StowRSSettings
from worker.destinations.interface import Destination
from worker.destinations.registry import back_to_sender, make_destination

pytestmark = [
    pytest.mark.skipif(not orthanc_server.INSTALLED, reason=orthanc_server.NOT_INSTALLED),
    # pynetdicom 3.0.4 does not close the socket of a refused connection; the garbage collector does.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc"), password_required=True) as server:
        yield server


@pytest.fixture(params=["storage_scu", "stow_rs", "sender"])
def destination(request: pytest.FixtureRequest, orthanc: Orthanc) -> Iterator[Destination]:
    made = connect(request.param, orthanc)
    yield made
    made.close()


def connect(kind: str, orthanc: Orthanc, password: str = orthanc_server.PASSWORD) -> Destination:
    settings: StorageSCUSettings | StowRSSettings
    if kind == "sender":
        peer = PeerSettings(name="pacs", ae_title=orthanc.ae_title, port=orthanc.dicom_port)
        return back_to_sender(
            [peer], calling_ae_title=orthanc.ae_title, peer_address=orthanc.host, own_ae_title="VESSELQ"
        )
    if kind == "storage_scu":
        settings = StorageSCUSettings(
            kind="storage_scu", name="pacs", ae_title=orthanc.ae_title, host=orthanc.host, port=orthanc.dicom_port
        )
    else:
        settings = StowRSSettings(
            kind="stow_rs",
            name="web",
            url=orthanc.dicomweb_url,
            username=orthanc_server.USERNAME,
            password=password,
            timeout_seconds=10,
        )
    return make_destination(settings, calling_ae_title="VESSELQ")


def in_orthanc(orthanc: Orthanc, result: SegmentationFile) -> pydicom.Dataset:
    stored = orthanc.file(result.sop_instance_uid)
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(stored))


def test_a_segmentation_is_found_by_qido(orthanc: Orthanc, destination: Destination, tmp_path: Path) -> None:
    """By study and modality; pixels and attributes are those of the file."""
    result = segmentation_file(tmp_path, frames=12, size=512)
    assert destination.send(result.path, **result.uids).endswith("stored")
    found = orthanc.qido("studies", StudyInstanceUID=result.study_instance_uid, ModalitiesInStudy="SEG")
    assert [study["0020000D"]["Value"] for study in found] == [[result.study_instance_uid]]
    instances = orthanc.qido(f"studies/{result.study_instance_uid}/instances", SOPInstanceUID=result.sop_instance_uid)
    assert len(instances) == 1
    assert in_orthanc(orthanc, result) == pydicom.dcmread(result.path)


def test_sending_again_is_fine(orthanc: Orthanc, destination: Destination, tmp_path: Path) -> None:
    """A repeated delivery is stored once and answered as stored."""
    result = segmentation_file(tmp_path)
    for _ in range(3):
        assert "stored" in destination.send(result.path, **result.uids)
    assert len(orthanc.qido(f"studies/{result.study_instance_uid}/instances")) == 1


def test_what_one_way_brought_is_a_duplicate_for_the_other(orthanc: Orthanc, tmp_path: Path) -> None:
    """C-STORE and STOW-RS of the same object, either first."""
    for kinds in (("storage_scu", "stow_rs"), ("stow_rs", "storage_scu")):
        result = segmentation_file(tmp_path)
        for kind in kinds:
            destination = connect(kind, orthanc)
            assert "stored" in destination.send(result.path, **result.uids)
            destination.close()
        assert in_orthanc(orthanc, result).PixelData == result.pixel_data


def test_check_finds_it_alive(destination: Destination) -> None:
    """C-ECHO and QIDO-RS."""
    assert destination.check() in ("0x0000 C-ECHO", "QIDO-RS answered")


def test_a_wrong_password_is_permanent(orthanc: Orthanc, tmp_path: Path) -> None:
    """Orthanc answers 401 and closes before it has read a large body; either way it is told in words."""
    result = segmentation_file(tmp_path, frames=64, size=512)
    destination = connect("stow_rs", orthanc, password="wrong")
    with pytest.raises(PermanentDeliveryError, match="401"):
        destination.check()
    with pytest.raises(PermanentDeliveryError, match="401") as caught:
        destination.send(result.path, **result.uids)
    destination.close()
    assert caught.value.status == 401
    with pytest.raises(KeyError):
        orthanc.file(result.sop_instance_uid)


@pytest.mark.parametrize("kind", ["storage_scu", "stow_rs"])
def test_a_killed_orthanc_is_transient_and_found_again(kind: str, tmp_path: Path) -> None:
    """Kill -9 between two sends over kept connections: an error that can heal, and it heals; nothing is lost."""
    first, second = segmentation_file(tmp_path), segmentation_file(tmp_path)
    with Orthanc(tmp_path / "orthanc", configuration={"SyncStorageArea": True}) as orthanc:
        destination = connect(kind, orthanc)
        destination.send(first.path, **first.uids)
        orthanc.kill()
        assert not is_listening(orthanc.dicom_port)
        with pytest.raises(TransientDeliveryError):
            destination.send(second.path, **second.uids)
        orthanc.start()
        destination.send(second.path, **second.uids)
        destination.close()
        assert in_orthanc(orthanc, first).PixelData == first.pixel_data
        assert in_orthanc(orthanc, second).PixelData == second.pixel_data

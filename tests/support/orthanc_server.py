"""A real Orthanc with DICOMweb for the tests: the sender of studies and the PACS that takes results.

::

    with Orthanc(tmp_path / "orthanc") as orthanc:
        orthanc.add_modality("vesselq", "VESSELQ", port)      # whom it may send to
        orthanc.send(study_instance_uid, "vesselq")           # C-STORE of everything of a study
        orthanc.qido("studies", StudyInstanceUID=uid)         # DICOM JSON datasets
        orthanc.file(sop_instance_uid)                        # the stored file, bytes

It accepts every storage class from everybody, by C-STORE under the AE title ``ORTHANC`` and by STOW-RS.
"""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from loopback import LOOPBACK, free_port, kill_process, start_process, stop_process, wait_until

BINARY = Path("/usr/sbin/Orthanc")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
INSTALLED = BINARY.exists() and DICOMWEB_PLUGIN.exists()
NOT_INSTALLED = "Orthanc with its DICOMweb plugin is not installed (apt-get install orthanc orthanc-dicomweb)"
AE_TITLE = "ORTHANC"
USERNAME, PASSWORD = "tester", "not a secret"


class Orthanc:
    """An Orthanc process with empty storage.

    Attributes:
        ae_title: ``ORTHANC``.
        host: Loopback.
        dicom_port: Of its Storage SCP.
        http_port: Of its web server.
        url: Base of its own REST API, without a slash at the end.
        dicomweb_url: Base of DICOMweb, without a slash at the end.
        auth: User name and password of HTTP basic authentication, None unless ``password_required``.
        process: The running server, None before ``start`` and after ``stop``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password_required: bool = False,
        dicom_port: int = 0,
        http_port: int = 0,
        configuration: dict[str, Any] | None = None,
    ) -> None:
        """Prepare, start nothing.

        Args:
            folder: For configuration, storage and log; made if missing.
            password_required: Whether HTTP needs ``auth``.
            dicom_port: 0 takes a free one.
            http_port: 0 takes a free one.
            configuration: Keys of Orthanc's configuration file that go over ours.
        """
        self.folder = folder
        self.ae_title = AE_TITLE
        self.host = LOOPBACK
        self.dicom_port = dicom_port or free_port()
        self.http_port = http_port or free_port()
        self.url = f"http://{LOOPBACK}:{self.http_port}"
        self.dicomweb_url = f"{self.url}/dicom-web"
        self.auth = (USERNAME, PASSWORD) if password_required else None
        self.process: subprocess.Popen[bytes] | None = None
        self._configuration = configuration or {}
        self._session = requests.Session()
        self._session.auth = self.auth

    def start(self) -> None:
        """Start (again: the storage is kept) and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(self._all_configuration(), indent=1))
        self.process = start_process([BINARY, file], log_file=self.folder / "orthanc.log", folder=self.folder)
        wait_until(self.answers, "Orthanc", timeout_seconds=60, process=self.process)

    def _all_configuration(self) -> dict[str, Any]:
        return {
            "Name": "tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomModalitiesInDatabase": True,
            "UnknownSopClassAccepted": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": self.auth is not None,
            "RegisteredUsers": {USERNAME: PASSWORD},
            "StableAge": 1,
            "Plugins": [str(DICOMWEB_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
            **self._configuration,
        }

    def answers(self) -> bool:
        """Whether its web server answers."""
        try:
            return self._session.get(f"{self.url}/system", timeout=5).ok
        except requests.RequestException:
            return False

    def get(self, path: str) -> Any:
        """The decoded JSON answer of ``GET path`` of its own REST API, for example ``/statistics``."""
        response = self._session.get(f"{self.url}{path}", timeout=30)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, body: Any) -> Any:
        """The decoded JSON answer of ``POST path`` of its own REST API."""
        response = self._session.post(f"{self.url}{path}", json=body, timeout=120)
        response.raise_for_status()
        return response.json() if response.content else None

    def qido(self, resource: str, **matching: str) -> list[dict[str, Any]]:
        """Query by QIDO-RS.

        Args:
            resource: ``studies``, ``series``, ``instances`` or a path that ends with one of them.
            matching: DICOM keywords, for example ``StudyInstanceUID="1.2"`` or ``Modality="SEG"``.

        Returns:
            DICOM JSON datasets (PS3.18 annex F).
        """
        response = self._session.get(f"{self.dicomweb_url}/{resource}", params=matching, timeout=30)
        response.raise_for_status()
        found: list[dict[str, Any]] = response.json() if response.content else []
        return found

    def file(self, sop_instance_uid: str) -> bytes:
        """The DICOM file of a stored instance as Orthanc keeps it.

        Raises:
            KeyError: It has no such instance.
        """
        found = self.post("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}})
        if not found:
            raise KeyError(f"Orthanc has no instance {sop_instance_uid}")
        response = self._session.get(f"{self.url}/instances/{found[0]}/file", timeout=60)
        response.raise_for_status()
        return response.content

    def upload(self, file: Path) -> None:
        """Store a file by its own REST API, as if it came from a scanner."""
        response = self._session.post(f"{self.url}/instances", data=file.read_bytes(), timeout=60)
        response.raise_for_status()

    def add_modality(self, name: str, ae_title: str, port: int, host: str = LOOPBACK) -> None:
        """Make a Storage SCP known to it under ``name``, as a target of ``send``."""
        response = self._session.put(
            f"{self.url}/modalities/{name}", json={"AET": ae_title, "Host": host, "Port": port}, timeout=30
        )
        response.raise_for_status()

    def send(self, study_instance_uid: str, modality: str) -> None:
        """Send every instance of a study by C-STORE over one association to ``modality``.

        Raises:
            KeyError: It has no such study.
            requests.HTTPError: The receiver refused something.
        """
        found = self.post("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_instance_uid}})
        if not found:
            raise KeyError(f"Orthanc has no study {study_instance_uid}")
        self.post(f"/modalities/{modality}/store", {"Resources": found, "Synchronous": True})

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None, "the server does not run"
        kill_process(self.process)
        self.process = None

    def stop(self) -> None:
        """End it; ``start`` starts it again with the same ports and storage."""
        if self.process is not None:
            stop_process(self.process, timeout_seconds=20)
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._session.close()

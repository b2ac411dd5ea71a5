"""Where the results of the demonstration go: Orthanc where it is installed, else a folder behind a small SCP."""

import http.client
import json
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from console.children import Child, Children
from console.up import free_port
from dicom_core.errors import NotFoundError, UnavailableError
from dicom_listener.result_folder import ResultFolder

AE_TITLE = "RESULTPACS"
_ORTHANC_SECONDS = 60.0
_DICOMWEB_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)


class ResultPacs(Protocol):
    """A Storage SCP on loopback that can be asked for what it has.

    Attributes:
        port: Of its Storage SCP, whose AE title is ``AE_TITLE``.
    """

    port: int

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            UnavailableError: It does not.
        """
        ...

    def stop(self) -> None:
        """Stop it."""
        ...

    def describe(self) -> str:
        """What and where it is, for the reader."""
        ...

    def fetch(self, sop_instance_uid: str) -> tuple[bytes, str]:
        """The DICOM file of a stored object, and the place where it is.

        Raises:
            NotFoundError: It has no such object.
            UnavailableError: It does not answer.
        """
        ...


def find_result_pacs(folder: Path, log_folder: Path) -> ResultPacs:
    """The best result PACS of this machine, not started yet.

    Args:
        folder: For what it stores.
        log_folder: For what it says.
    """
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return OrthancPacs(program, folder, log_folder) if program else FolderPacs(folder)


class FolderPacs:
    """The small built-in Storage SCP."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._server = ResultFolder(folder, ae_title=AE_TITLE, port=self.port)

    def start(self) -> None:
        """See ``ResultPacs.start``."""
        self._server.start()

    def stop(self) -> None:
        """See ``ResultPacs.stop``."""
        self._server.stop()

    def describe(self) -> str:
        """See ``ResultPacs.describe``."""
        return (
            f"no Orthanc is installed (apt-get install orthanc orthanc-dicomweb): results go to a small built-in "
            f"Storage SCP, which files them in {self._server.folder}"
        )

    def fetch(self, sop_instance_uid: str) -> tuple[bytes, str]:
        """See ``ResultPacs.fetch``."""
        path = self._server.path(sop_instance_uid)
        try:
            return path.read_bytes(), str(path)
        except OSError:
            raise NotFoundError(f"the result folder has no object {sop_instance_uid}") from None


class OrthancPacs:
    """A real Orthanc, as a child of this process, on loopback ports."""

    def __init__(self, program: str, folder: Path, log_folder: Path) -> None:
        self.port = free_port()
        self.http_port = free_port()
        self._program = program
        self._folder = folder
        self._log_folder = log_folder
        self._stack = ExitStack()

    def start(self) -> None:
        """See ``ResultPacs.start``."""
        for made in (self._folder, self._log_folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / "orthanc.json"
        file.write_text(json.dumps(self._configuration(), indent=1), encoding="utf-8")
        orthanc = Children([Child("orthanc", [self._program, str(file)], os.environ, self._log_folder / "orthanc.log")])
        orthanc.start()
        self._stack.callback(orthanc.stop)
        deadline = time.monotonic() + _ORTHANC_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                self.stop()
                raise UnavailableError(f"waited in vain for Orthanc to answer; see {self._log_folder / 'orthanc.log'}")
            time.sleep(0.1)

    def _configuration(self) -> dict[str, Any]:
        plugin = next((path for path in _DICOMWEB_PLUGINS if path.exists()), None)
        return {
            "Name": "vesselq demo",
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "storage"),
            "DicomAet": AE_TITLE,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(plugin)] if plugin else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def _answers(self) -> bool:
        try:
            self._ask("GET", "/system")
        except UnavailableError:
            return False
        return True

    def stop(self) -> None:
        """See ``ResultPacs.stop``."""
        self._stack.close()

    def describe(self) -> str:
        """See ``ResultPacs.describe``."""
        return f"results go to Orthanc: http://127.0.0.1:{self.http_port}/, {AE_TITLE} at 127.0.0.1:{self.port}"

    def fetch(self, sop_instance_uid: str) -> tuple[bytes, str]:
        """See ``ResultPacs.fetch``."""
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        found = json.loads(self._ask("POST", "/tools/find", json.dumps(query).encode()))
        if len(found) != 1:
            raise NotFoundError(f"Orthanc has no object {sop_instance_uid}")
        path = f"/instances/{found[0]}"
        return self._ask("GET", f"{path}/file"), f"http://127.0.0.1:{self.http_port}{path}"

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"Orthanc does not answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise UnavailableError(f"Orthanc answers {method} {path} with {answer.status}")
        return content

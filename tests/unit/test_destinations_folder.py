"""The folder destination: what appears, what never appears, and which faults can heal."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dicom_core.errors import PermanentDeliveryError, TransientDeliveryError
from dicom_core.setting_tables import FolderSettings
from worker.destinations import folder as folder_module
from worker.destinations.folder import Folder

UIDS = {"sop_instance_uid": "1.2.3.4", "study_instance_uid": "1.2", "series_instance_uid": "1.2.3"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "result.dcm"
    path.write_bytes(os.urandom(3_000_000))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


def make(path: Path) -> Folder:
    return Folder(FolderSettings(kind="folder", name="files", path=path))


def everything_in(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()}


def test_the_file_is_named_by_uids(file: Path, out: Path) -> None:
    """Missing folders are made; content is equal; nothing else is left; others than owner and group see nothing."""
    answer = make(out).send(file, **UIDS)
    written = out / "1.2" / "1.2.3.4.dcm"
    assert answer == f"written to {written}"
    assert written.read_bytes() == file.read_bytes()
    assert everything_in(out) == {"1.2/1.2.3.4.dcm"}
    assert written.stat().st_mode & 0o007 == 0
    assert written.parent.stat().st_mode & 0o007 == 0


def test_sending_again_is_fine(file: Path, out: Path) -> None:
    """Equal content is left as it is."""
    make(out).send(file, **UIDS)
    before = (out / "1.2" / "1.2.3.4.dcm").stat().st_mtime_ns
    assert make(out).send(file, **UIDS) == "already there with equal content"
    assert (out / "1.2" / "1.2.3.4.dcm").stat().st_mtime_ns == before


def test_other_content_is_never_replaced(file: Path, out: Path) -> None:
    """Two contents under one UID: the first one stays."""
    (out / "1.2").mkdir(parents=True)
    (out / "1.2" / "1.2.3.4.dcm").write_bytes(b"other")
    with pytest.raises(PermanentDeliveryError, match="other content"):
        make(out).send(file, **UIDS)
    assert (out / "1.2" / "1.2.3.4.dcm").read_bytes() == b"other"


@pytest.mark.parametrize("uid", ["../../evil", "1.2/3", "", "1..2", "1." * 40 + "1", "1.02"])
@pytest.mark.parametrize("name", ["sop_instance_uid", "study_instance_uid"])
def test_only_uids_become_names(file: Path, out: Path, name: str, uid: str) -> None:
    """Nothing is written for anything else, inside or outside of the folder."""
    with pytest.raises(PermanentDeliveryError, match="not a UID"):
        make(out).send(file, **{**UIDS, name: uid})
    assert not out.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_faults_that_can_heal_are_transient_and_leave_nothing(
    file: Path, out: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Disk full and the like at each step: no file under the final name, no part; afterwards it works."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    out.mkdir(parents=True)
    with monkeypatch.context() as patched:
        where = {"open": "os.open", "write": "shutil.copyfileobj", "fsync": "os.fsync", "rename": "pathlib.Path.rename"}
        patched.setattr(where[call], fail)
        with pytest.raises(TransientDeliveryError, match=os.strerror(number)):
            make(out).send(file, **UIDS)
    assert everything_in(out) == set()
    make(out).send(file, **UIDS)
    assert everything_in(out) == {"1.2/1.2.3.4.dcm"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_missing_rights_are_permanent(file: Path, out: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """An operator has to act."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(PermanentDeliveryError, match=os.strerror(number)):
        make(out).send(file, **UIDS)


def test_a_file_where_the_folder_should_be_is_permanent(file: Path) -> None:
    """The path of the settings is wrong."""
    with pytest.raises(PermanentDeliveryError, match="does not take the object"):
        make(file).send(file, **UIDS)
    with pytest.raises(PermanentDeliveryError):
        make(file / "below").check()


def test_the_bytes_are_durable_before_the_name_and_the_name_before_the_answer(
    file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fsync of the file, rename, fsync of the folder, in this order; the new folder's name is made durable too."""
    steps: list[str] = []
    fsync, rename, sync_folder = os.fsync, Path.rename, folder_module.sync_folder

    def recorded_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_file():
            steps.append("fsync file")
        fsync(descriptor)

    def recorded_rename(self: Path, target: Any) -> Path:
        steps.append("rename")
        return rename(self, target)

    def recorded_sync(path: Path) -> None:
        steps.append(f"fsync folder {path.name}")
        sync_folder(path)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    monkeypatch.setattr(folder_module, "sync_folder", recorded_sync)
    make(out).send(file, **UIDS)
    assert steps == ["fsync folder out", "fsync file", "rename", "fsync folder 1.2"]


def test_a_share_that_cannot_synchronise_folders_is_used(
    file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network shares answer EINVAL to fsync of a folder; any other error counts."""

    def fails_with(number: int) -> None:
        def fail(_: Path) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(folder_module, "sync_folder", fail)

    fails_with(errno.EINVAL)
    make(out).send(file, **UIDS)
    assert everything_in(out) == {"1.2/1.2.3.4.dcm"}
    fails_with(errno.EIO)
    with pytest.raises(TransientDeliveryError):
        make(out).send(file, **UIDS)


def test_parts_of_a_killed_sender_are_removed(file: Path, out: Path) -> None:
    """The next try for the same object tidies up; parts of other objects stay."""
    (out / "1.2").mkdir(parents=True)
    (out / "1.2" / ".1.2.3.4.0123.part").write_bytes(b"half")
    (out / "1.2" / ".1.2.3.5.0123.part").write_bytes(b"of another sender")
    make(out).send(file, **UIDS)
    assert everything_in(out) == {"1.2/1.2.3.4.dcm", "1.2/.1.2.3.5.0123.part"}


def test_a_missing_result_is_permanent(out: Path, tmp_path: Path) -> None:
    """There is nothing to send, now and later."""
    with pytest.raises(PermanentDeliveryError, match="is missing"):
        make(out).send(tmp_path / "gone.dcm", **UIDS)


def test_check_writes_and_removes(out: Path) -> None:
    """The folder is writable, how much space there is, and nothing stays."""
    destination = make(out)
    assert "MiB free" in destination.check()
    assert everything_in(out) == set()
    destination.close()
    assert destination.describe() == f"folder {out}"

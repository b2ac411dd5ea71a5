"""The order of steps that makes bytes durable, and what is left when one fails."""

import errno
import hashlib
import io
import os
import random
import stat
from pathlib import Path

import pytest

from dicom_core import spool as spool_module
from dicom_core.errors import SpoolDamagedError, SpoolError, SpoolFullError
from dicom_core.fingerprint import Fingerprint
from dicom_core.spool import PREAMBLE, Spool, data_set_fingerprint, keep_file

META = bytes.fromhex("02000000554c0400") + (4).to_bytes(4, "little") + b"meta"
DATA = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" * 100
UID = "1.2.826.1.1"


@pytest.fixture
def spool(tmp_path):
    """A prepared spool."""
    spool = Spool(tmp_path / "data" / "spool")
    spool.prepare()
    return spool


def _receive(spool: Spool, data: bytes = DATA, uid: str = UID, meta: bytes = META) -> spool_module.SpooledFile:
    with spool.receive(meta) as incoming:
        incoming.write(data[:100])
        incoming.write(memoryview(data)[100:])
        kept = incoming.keep(uid)
    spool.synchronise([kept])
    return kept


def _fingerprint(data: bytes) -> str:
    fingerprint = Fingerprint()
    fingerprint.update(data)
    return str(fingerprint)


def _files(spool: Spool) -> list[str]:
    return sorted(str(path.relative_to(spool.folder)) for path in spool.folder.rglob("*") if path.is_file())


def test_a_file_is_kept_as_it_came(spool):
    """Zero preamble, DICM, meta information, then the data set byte for byte; the hash is that of the data set."""
    kept = _receive(spool)
    assert spool.path(kept.path).read_bytes() == PREAMBLE + META + DATA
    assert kept.fingerprint == _fingerprint(DATA)
    assert kept.size_bytes == len(PREAMBLE + META + DATA)
    assert _files(spool) == [kept.path]
    assert list(spool.kept_paths()) == [kept.path]


def test_names_come_from_hashes_never_from_the_wire(spool):
    """A hostile UID is a name like any other, below its shard, for the owner alone."""
    kept = _receive(spool, uid="../../../tmp/evil\n")
    folder, shard, name = kept.path.split("/")
    assert (folder, shard) == ("instances", name[:2])
    assert set(name.removesuffix(".dcm")) <= set("0123456789abcdef-")
    assert stat.S_IMODE(spool.path(kept.path).stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((spool.folder / "tmp").stat().st_mode) == 0o700


def test_the_same_bytes_have_one_file_and_other_bytes_another(spool):
    """Writing again replaces equal bytes by equal bytes; a conflict leaves the first file alone."""
    first, again, other = _receive(spool), _receive(spool), _receive(spool, DATA + b"x")
    assert first == again
    assert other.path != first.path
    assert len(_files(spool)) == 2


def test_the_order_of_steps_is_the_durable_one(spool, monkeypatch):
    """Bytes are synchronised before the file gets its name, and the name after: nothing is kept before its turn."""
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        assert folder or os.fstat(descriptor).st_size == len(PREAMBLE + META + DATA)
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(f"fsync {'folder' if folder else 'file'} {name.suffix}")
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.suffix} {target.suffix}")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    _receive(spool)
    assert steps == ["fsync file .part", "rename .part .dcm", "fsync folder "]


def test_each_folder_of_a_group_is_synchronised_once(spool, monkeypatch):
    """Twenty files in few shards cost few synchronisations."""
    kept = [_receive(spool, DATA + bytes([number])) for number in range(20)]
    folders: list[Path] = []
    monkeypatch.setattr(spool_module, "sync_folder", folders.append)
    spool.synchronise(kept)
    assert sorted(folders) == sorted({spool.path(file.path).parent for file in kept})


def test_the_folders_are_durable_before_anything_is_received(tmp_path, monkeypatch):
    """The spool's own name and those of its shards are synchronised too."""
    folders: list[Path] = []
    monkeypatch.setattr(spool_module, "sync_folder", folders.append)
    folder = tmp_path / "spool"
    Spool(folder).prepare()
    assert {folder, folder.parent, folder / "instances"} <= set(folders)
    Spool(folder).prepare()


def test_what_is_not_kept_leaves_nothing(spool):
    """An abort in the middle, with or without an error."""
    with spool.receive(META) as incoming:
        incoming.write(DATA)
    with pytest.raises(ZeroDivisionError), spool.receive(META) as incoming:
        incoming.write(bytes([1 // 0]))
    assert _files(spool) == []
    assert list(spool.unfinished_paths()) == []


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, SpoolFullError), (errno.EDQUOT, SpoolFullError), (errno.EIO, SpoolError)]
)
def test_a_full_or_broken_disk_has_its_name_and_leaves_nothing(spool, monkeypatch, call, number, kind):
    """At each step: the right error, retryable, the cause kept for whoever must tell EIO apart, no part file."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def receive() -> None:
        with spool.receive(META) as incoming:
            if call == "write":
                monkeypatch.setattr(incoming, "_write_all", fail)
            else:
                monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "rename")), fail)
            incoming.write(DATA)
            incoming.keep(UID)

    with pytest.raises(SpoolError) as caught:
        receive()
    monkeypatch.undo()
    assert type(caught.value) is kind
    assert caught.value.retryable
    assert caught.value.__cause__.errno == number
    assert _files(spool) == []


def test_a_disk_that_is_full_at_the_first_byte_leaves_nothing(spool, monkeypatch):
    """Not even the file that was just made, nor its descriptor."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module.IncomingFile, "_write_all", fail)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  descriptors, not files
    with pytest.raises(SpoolFullError):
        spool.receive(META)
    assert _files(spool) == []
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_folder_that_cannot_be_synchronised_is_an_error(spool):
    """The caller must not acknowledge."""
    kept = _receive(spool)
    spool.path(kept.path).unlink()
    spool.path(kept.path).parent.rmdir()
    with pytest.raises(SpoolError, match="folder"):
        spool.synchronise([kept])


def test_a_spool_that_cannot_be_made_says_which(tmp_path):
    """A file in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file/spool"):
        Spool(tmp_path / "file" / "spool").prepare()
    with pytest.raises(SpoolError):
        Spool(tmp_path / "never-prepared").receive(META)


@pytest.mark.parametrize("where", [len(PREAMBLE + META), len(PREAMBLE + META) + 777, -1])
def test_one_flipped_bit_is_found(spool, where):
    """Anywhere in the data set."""
    kept = _receive(spool)
    spool.verify(kept.path, kept.fingerprint)
    content = bytearray(spool.path(kept.path).read_bytes())
    content[where] ^= 1
    spool.path(kept.path).write_bytes(content)
    with pytest.raises(SpoolDamagedError, match="other content"):
        spool.verify(kept.path, kept.fingerprint)


@pytest.mark.parametrize("cut", [0, 100, len(PREAMBLE) + 4, len(PREAMBLE + META) + 5])
def test_a_cut_file_is_found(spool, cut):
    """However little is left."""
    kept = _receive(spool)
    with spool.path(kept.path).open("r+b") as file:
        file.truncate(cut)
    with pytest.raises(SpoolDamagedError):
        spool.verify(kept.path, kept.fingerprint)


def test_a_missing_file_is_found_and_removing_it_again_is_fine(spool):
    """``remove`` may be repeated after a crash."""
    kept = _receive(spool)
    spool.remove(kept.path)
    spool.remove(kept.path)
    with pytest.raises(SpoolDamagedError, match="No such file"):
        spool.verify(kept.path, kept.fingerprint)


def test_the_hash_does_not_see_the_meta_information(spool):
    """The same data set with another group 0002 (another sender's software) is the same content."""
    other = bytes.fromhex("02000000554c0400") + (9).to_bytes(4, "little") + b"nine bytes"[:9]
    assert _receive(spool).fingerprint == _receive(spool, meta=other).fingerprint
    assert data_set_fingerprint(io.BytesIO(PREAMBLE + other + DATA)) == _fingerprint(DATA)


def test_free_space_is_that_of_the_file_system(spool):
    """For the low-water marks."""
    status = os.statvfs(spool.folder)
    assert 0 < spool.free_bytes() <= status.f_blocks * status.f_frsize


def test_a_result_is_made_durable_under_its_name(tmp_path, monkeypatch):
    """Fsync of the file, rename, fsync of both folders; on failure the error of the spool."""
    temporary, final = tmp_path / "x.part", tmp_path / "ab" / "job" / "segmentation.dcm"
    temporary.write_bytes(b"result")
    folders: list[Path] = []
    monkeypatch.setattr(spool_module, "sync_folder", folders.append)
    keep_file(temporary, final)
    assert final.read_bytes() == b"result"
    assert not temporary.exists()
    assert folders == [final.parent, final.parent.parent]
    with pytest.raises(SpoolError, match="result"):
        keep_file(temporary, final)


def test_a_long_object_in_many_pieces(spool):
    """Views and bytes, more of them than one system call takes: one fingerprint over all, and no descriptor stays."""
    pixels = random.Random(7).randbytes(200_001)
    views = [memoryview(pixels)[start : start + 100] for start in range(0, len(pixels), 100)]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  descriptors, not files
    with spool.receive(META) as incoming:
        incoming.write(DATA)
        incoming.write(*views)
        kept = incoming.keep(UID)
    assert kept.fingerprint == _fingerprint(DATA + pixels)
    assert spool.path(kept.path).read_bytes() == PREAMBLE + META + DATA + pixels
    assert kept.size_bytes == len(PREAMBLE + META + DATA + pixels)
    spool.verify(kept.path, kept.fingerprint)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_an_older_release_received_is_compared_in_its_way(spool):
    """SHA-256 where the record has that: the same name for the same content, another for other content, and damage."""
    older = hashlib.sha256(DATA).hexdigest()
    names = set()
    for data in (DATA, DATA, DATA + b"other"):
        with spool.receive(META) as incoming:
            incoming.write(data)
            kept = incoming.keep(UID, older)
        assert kept.fingerprint == hashlib.sha256(data).hexdigest()
        spool.verify(kept.path, kept.fingerprint)
        names.add(kept.path)
    assert len(names) == 2
    # as it was named before there was another algorithm
    content = hashlib.sha256(META + older.encode()).hexdigest()[:32]
    assert f"-{content}.dcm" in "".join(names)
    assert _receive(spool).fingerprint == _fingerprint(DATA)
    with pytest.raises(SpoolDamagedError, match="other content"):
        spool.verify(kept.path, older)

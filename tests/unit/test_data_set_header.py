"""The header walk: every encoding, hostile bytes, and agreement with pydicom."""

import io
import random
import struct
import warnings

import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from store_scu import element

from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_listener.data_set_header import Header, HeaderError, HeaderIncompleteError, read_header
from dicom_listener.file_meta import file_meta

SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEG2000Lossless]


def _data_set(*, nested: int = 2, undefined: bool = False) -> Dataset:
    """A header with nested sequences and private elements before the study's UIDs."""
    inner = Dataset()
    inner.ReferencedSOPClassUID = "1.2.3"
    inner.ReferencedSOPInstanceUID = "9.9.9"
    for _ in range(nested):
        item = Dataset()
        item.StudyInstanceUID = "6.6.6"  # must not be taken for the study's
        item.ReferencedImageSequence = Sequence([inner])
        item.is_undefined_length_sequence_item = undefined
        inner = item
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 13\\NO SUCH SET"
    data_set.SOPClassUID = uid.CTImageStorage
    data_set.SOPInstanceUID = "1.2.3.4"
    data_set.Modality = "CT"
    data_set.ReferencedStudySequence = Sequence([inner])
    data_set["ReferencedStudySequence"].is_undefined_length = undefined
    data_set.PatientName = "Doe^Jane"
    data_set.add_new(0x00191001, "UN", b"\x01\x02\x03\x04")
    data_set.StudyInstanceUID = "1.2.33"
    data_set.SeriesInstanceUID = "1.2.33.4"
    data_set.InstanceNumber = 1
    return data_set


def _encoded(data_set: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == uid.ImplicitVRLittleEndian
    buffer.is_little_endian = syntax != uid.ExplicitVRBigEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom tells of the unknown character set
        write_dataset(buffer, data_set)
    return buffer.getvalue()


EXPECTED = Header(uid.CTImageStorage, "1.2.3.4", "CT", "1.2.33", "1.2.33.4")


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_all_encodings(syntax: str, undefined: bool) -> None:
    """The five elements are found behind nested sequences of both kinds, an unknown character set notwithstanding."""
    data = _encoded(_data_set(undefined=undefined), syntax)
    assert read_header(data, syntax, complete=True) == EXPECTED


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_prefix_is_incomplete_until_it_is_enough(syntax: str) -> None:
    """A prefix either lacks the end (incomplete) or gives the whole answer; no prefix gives a wrong one."""
    data = _encoded(_data_set(undefined=True), syntax)
    answers = []
    for end in range(len(data)):
        try:
            answers.append(read_header(data[:end], syntax, complete=False))
        except HeaderIncompleteError:
            assert not answers, "a longer prefix must not know less"
    assert set(answers) == {EXPECTED}


def _of_patient(patient_id: bytes, *, character_set: bytes = b"", issuer: bytes = b"") -> Header:
    data = element(0x0008, 0x0005, b"CS", character_set)
    data += element(0x0010, 0x0020, b"LO", patient_id) + element(0x0010, 0x0021, b"LO", issuer)
    data += _encoded(_plain_study(), uid.ExplicitVRLittleEndian)
    return read_header(data, uid.ExplicitVRLittleEndian, complete=True)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_patient_is_read_in_all_encodings(syntax: str) -> None:
    """PatientID and its issuer, without padding; the representation shows neither."""
    data_set = _data_set()
    data_set.PatientID, data_set.IssuerOfPatientID = "MRN-1", "HOSPITAL"
    header = read_header(_encoded(data_set, syntax), syntax, complete=True)
    assert (header.patient_id, header.issuer_of_patient_id) == ("MRN-1", "HOSPITAL")
    assert "MRN" not in repr(header)
    assert "HOSPITAL" not in repr(header)


@pytest.mark.parametrize(
    ("character_set", "codec", "patient_id"),
    [
        (b"ISO_IR 192", "utf-8", "\u8840\u7ba1-7"),
        (b"GB18030 ", "gb18030", "\u8840\u7ba1-7"),
        (b"ISO_IR 100", "latin-1", "M\u00fcller-7"),
        (b"ISO_IR 144", "iso8859-5", "\u0416-7"),
    ],
)
def test_an_identifier_is_read_in_its_character_set(character_set: bytes, codec: str, patient_id: str) -> None:
    """So that one who types it finds it, whatever the modality writes."""
    assert _of_patient(patient_id.encode(codec), character_set=character_set).patient_id == patient_id


@pytest.mark.parametrize("character_set", [b"", b"NO SUCH SET ", b"ISO_IR 192", b"\\ISO 2022 IR 58", b"ISO 2022 IR 58"])
def test_two_unreadable_identifiers_stay_two(character_set: bytes) -> None:
    """A character set that is missing, unknown or wrong makes nobody somebody else, and refuses nothing."""
    one, other = (_of_patient(value, character_set=character_set).patient_id for value in (b"\xe9\xff1", b"\xe8\xff1"))
    assert one != other


def test_a_broken_identifier_is_no_reason_to_refuse() -> None:
    """A PatientID longer than any name may be counts as absent."""
    header = _of_patient(b"9" * 300, issuer=b"HOSPITAL")
    assert (header.patient_id, header.series_instance_uid) == ("", "1.2.33.4")


def test_absent_and_empty_elements_are_empty() -> None:
    """What is not there is "", not an error: the caller decides."""
    data_set = Dataset()
    data_set.SOPClassUID = uid.CTImageStorage
    data_set.StudyInstanceUID = ""
    data = _encoded(data_set, uid.ExplicitVRLittleEndian)
    assert read_header(data, uid.ExplicitVRLittleEndian, complete=True) == Header(uid.CTImageStorage, "", "", "", "")
    assert read_header(b"", uid.ExplicitVRLittleEndian, complete=True) == Header("", "", "", "", "")


def test_deep_nesting_needs_no_recursion() -> None:
    """Twenty thousand nested sequences are walked over."""
    depth = 20_000
    opening = struct.pack("<HH2sHL", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data = opening * depth + closing * depth + _encoded(_plain_study(), uid.ExplicitVRLittleEndian)
    header = read_header(data, uid.ExplicitVRLittleEndian, complete=True)
    assert header.study_instance_uid == "1.2.33"


def _plain_study() -> Dataset:
    data_set = Dataset()
    data_set.StudyInstanceUID = "1.2.33"
    data_set.SeriesInstanceUID = "1.2.33.4"
    return data_set


def test_unknown_vr_of_undefined_length_is_implicit_inside() -> None:
    """PS3.5 section 6.2.2: UN of undefined length holds Implicit VR, also where its lengths look like a VR."""
    length = 0x4141  # "AA" where an explicit element has its VR
    inner = struct.pack("<HHL", 0x0009, 0x1002, length) + bytes(length)
    data = (
        struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, len(inner))[:4]
        + struct.pack("<L", 0xFFFFFFFF)
        + inner
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        + _encoded(_plain_study(), uid.ExplicitVRLittleEndian)
    )
    assert read_header(data, uid.ExplicitVRLittleEndian, complete=True).series_instance_uid == "1.2.33.4"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x00\x16\x00UI\xff",
        struct.pack("<HH2sH", 0x0008, 0x0016, b"UI", 500) + b"1" * 10,
        struct.pack("<HH2sHL", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF),
        struct.pack("<HH2sHL", 0x0008, 0x0016, b"UN", 0, 0xFFFFFFF0),
        struct.pack("<HH2sH", 0x0008, 0x0018, b"UI", 400) + b"1" * 400,
    ],
    ids=["cut tag", "cut value", "open sequence", "huge length", "long identifier"],
)
def test_damage_is_a_header_error(data: bytes) -> None:
    """Damage in a complete data set raises HeaderError, never another exception, never waits for more."""
    with pytest.raises(HeaderError) as caught:
        read_header(data, uid.ExplicitVRLittleEndian, complete=True)
    assert not isinstance(caught.value, HeaderIncompleteError)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_random_damage_raises_nothing_else(syntax: str) -> None:
    """Three thousand mutated data sets end in a header or in HeaderError."""
    generator = random.Random(7)
    original = _encoded(_data_set(undefined=True), syntax)
    for _ in range(3000):
        data = bytearray(original)
        for _ in range(generator.randint(1, 6)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            header = read_header(bytes(data[: generator.randint(0, len(data))]), syntax, complete=True)
        except HeaderError:
            continue
        assert isinstance(header, Header)


@pytest.mark.parametrize("sop_instance_uid", ["1.2.3", "1.2.34", "2.25." + "9" * 39])
def test_file_meta_is_what_pydicom_writes(sop_instance_uid: str) -> None:
    """Our bytes equal pydicom's encoding of the same elements, odd and even lengths, and do not change."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid.UID(sop_instance_uid)
    meta.TransferSyntaxUID = uid.JPEG2000Lossless
    meta.ImplementationClassUID = uid.UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = io.BytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    ours = file_meta(uid.CTImageStorage, sop_instance_uid, uid.JPEG2000Lossless)
    assert ours == buffer.getvalue()
    assert ours == file_meta(uid.CTImageStorage, sop_instance_uid, uid.JPEG2000Lossless)


def test_file_meta_reads_back() -> None:
    """A file of preamble, our file meta and a data set is a DICOM file for pydicom."""
    data = _encoded(_plain_study(), uid.ExplicitVRLittleEndian)
    meta = file_meta(uid.CTImageStorage, "1.2.3.4", uid.ExplicitVRLittleEndian)
    read = dcmread(io.BytesIO(bytes(128) + b"DICM" + meta + data))
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert read.StudyInstanceUID == "1.2.33"

"""What is odd about real series, generated: each case with what vesselq does about it.

The table of docs/reference/messy-sources.md is made from the same cases that tests/unit/test_messy_sources.py proves.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dicom_sources
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

Make = Callable[[], list[Dataset]]
SECOND_SERIES = "1.2.826.0.1.3680043.8.498.2"


@dataclass(frozen=True)
class MessyCase:
    """One oddity.

    Attributes:
        group: Heading of the table in the documentation.
        odd: What is odd, in words.
        outcome: What vesselq does, in words.
        make: The series.
        frames: Frames of each part that is segmented.
        left_out: Instances that are named as left out.
        warning: Stands in a warning of the first part; "" where there is nothing to warn of.
        refused: Stands in the reason for which the series is not segmented; "" where it is.
        spoil: Changes the files after they are written.
    """

    group: str
    odd: str
    outcome: str
    make: Make
    frames: tuple[int, ...] = (5,)
    left_out: int = 0
    warning: str = ""
    refused: str = ""
    spoil: Callable[[list[Path]], None] | None = None


def save(case: MessyCase, folder: Path) -> list[Path]:
    """Write the files of a case; pydicom is not asked what it thinks of their values."""
    with config.disable_value_validation():
        paths = dicom_sources.save(case.make(), folder)
    if case.spoil:
        case.spoil(paths)
    return paths


# --- ways to spoil a series -------------------------------------------------------------------------------------------


def raw(dataset: Dataset, keyword: str, value: bytes) -> None:
    """Set the bytes of an attribute, whatever they mean."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    padded = value + b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(Tag(tag), dictionary_VR(tag), len(padded), padded, 0, False, True)


def ct(frames: int = 5, **attributes: object) -> list[Dataset]:
    return dicom_sources.ct_series(frames, rows=32, columns=36, **attributes)


def enhanced(frames: int = 6, **attributes: object) -> list[Dataset]:
    return dicom_sources.enhanced_mr(frames, rows=32, columns=36, **attributes)


def run(frames: int = 4, **attributes: object) -> list[Dataset]:
    return dicom_sources.xa_run(frames, rows=32, columns=36, **attributes)


def each(make: Make, change: Callable[[Dataset], object]) -> Make:
    """All instances changed."""

    def made() -> list[Dataset]:
        datasets = make()
        for dataset in datasets:
            change(dataset)
        return datasets

    return made


def one(make: Make, change: Callable[[Dataset], object], index: int = 2) -> Make:
    """One instance changed."""

    def made() -> list[Dataset]:
        datasets = make()
        change(datasets[index])
        return datasets

    return made


def put(**values: object) -> Callable[[Dataset], None]:
    """Set attributes; None removes."""

    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)

    return change


def put_raw(**values: bytes) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            raw(dataset, keyword, value)

    return change


def in_frames(change: Callable[[Dataset, int], object], make: Make = enhanced) -> Make:
    """The functional groups of every frame of one enhanced object changed."""

    def made() -> list[Dataset]:
        datasets = make()
        for index, groups in enumerate(datasets[0].PerFrameFunctionalGroupsSequence):
            change(groups, index)
        return datasets

    return made


def new_uid(dataset: Dataset) -> Dataset:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return dataset


def phases(*lengths: int, **values: Sequence[object]) -> list[Dataset]:
    """Volumes at the same places; each keyword has one value a volume."""
    template = ct(max(lengths))
    datasets: list[Dataset] = []
    for number, length in enumerate(lengths):
        for dataset in copy.deepcopy(template[:length]):
            new_uid(dataset).InstanceNumber = len(datasets) + 1
            put(**{keyword: given[number] for keyword, given in values.items()})(dataset)
            datasets.append(dataset)
    return datasets


def joined(*makes: Make) -> Make:
    """Several series that claim to be one."""

    def made() -> list[Dataset]:
        datasets = [dataset for make in makes for dataset in make()]
        for number, dataset in enumerate(datasets, 1):
            dataset.InstanceNumber = number
            dataset.StudyInstanceUID = datasets[0].StudyInstanceUID
            dataset.SeriesInstanceUID = datasets[0].SeriesInstanceUID
        return datasets

    return made


def _repeated_slice() -> list[Dataset]:
    slices = ct()
    return [*slices, new_uid(copy.deepcopy(slices[2]))]


def _same_uid() -> list[Dataset]:
    slices = ct()
    slices[4].SOPInstanceUID = slices[3].SOPInstanceUID
    slices[4].file_meta.MediaStorageSOPInstanceUID = slices[3].SOPInstanceUID
    return slices


def _shuffled() -> list[Dataset]:
    slices = ct()
    for number, dataset in enumerate(slices):
        dataset.InstanceNumber = (number * 3) % 5
    return [slices[index] for index in (3, 0, 4, 1, 2)]


def _rounded() -> list[Dataset]:
    slices = ct(ImageOrientationPatient=[0.71, 0.71, 0, 0, 0, -1])
    for number, dataset in enumerate(slices):
        dataset.ImagePositionPatient = [-0.71 * number, 0.71 * number, 10]
    return slices


def _three_planes() -> list[Dataset]:
    slices = ct(9)
    for dataset in slices[:2]:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    for dataset in slices[2:4]:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return slices


def _mixed_transfer_syntaxes() -> list[Dataset]:
    slices = ct()
    slices[1].compress(RLELossless)
    slices[3].file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return slices


def _big_endian() -> list[Dataset]:
    slices = ct()
    for dataset in slices:
        stored = dataset.pixel_array
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = stored.astype(">u2").tobytes()
    return slices


def _mixed_bits() -> list[Dataset]:
    slices = ct()
    stored = slices[1].pixel_array
    put(BitsAllocated=8, BitsStored=8, HighBit=7, RescaleSlope=8)(slices[1])
    slices[1].PixelData = (stored // 8).astype("u1").tobytes()
    slices[1]["PixelData"].VR = "OB"
    put(PixelRepresentation=1)(slices[3])
    return slices


def _rescale_per_slice() -> list[Dataset]:
    slices = ct()
    for number, dataset in enumerate(slices):
        put(RescaleSlope=1 + number / 10, RescaleIntercept=-1000 - number)(dataset)
    return slices


def _private() -> list[Dataset]:
    slices = ct()
    for dataset in slices:
        block = dataset.private_block(0x0029, "SOME VENDOR", create=True)
        block.add_new(0x10, "UN", b"\x00\x01\xff")
        block.add_new(0x11, "OB", bytes(range(256)))
        dataset.add_new(0x00189999, "UN", b"not in the dictionary ")
    return slices


def _time_series() -> list[Dataset]:
    slices = ct(ImagePositionPatient=[0, 0, 0])
    for number, dataset in enumerate(slices):
        dataset.TriggerTime = 40 * number
    return slices


def _without_plane(groups: Dataset, index: int) -> None:
    if index == 3:
        del groups.PlanePositionSequence


def _second_phase(groups: Dataset, index: int) -> None:
    groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * (index % 3)]
    groups.FrameContentSequence[0].TemporalPositionIndex = index // 3 + 1


def _one_place(groups: Dataset, index: int) -> None:
    groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    groups.FrameContentSequence[0].TemporalPositionIndex = index + 1


def _other_spacing(groups: Dataset, index: int) -> None:
    spacing = [0.5, 0.5] if index == 0 else [0.7, 0.7]
    groups.PixelMeasuresSequence = [dicom_sources.item(PixelSpacing=spacing, SliceThickness=1)]


def _own_measures(change: Callable[[Dataset, int], None]) -> Make:
    def made() -> list[Dataset]:
        datasets = enhanced()
        del datasets[0].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        return in_frames(change, lambda: datasets)()

    return made


def _empty_groups() -> list[Dataset]:
    datasets = enhanced()
    datasets[0].SharedFunctionalGroupsSequence = [Dataset()]
    datasets[0].PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(6)]
    return datasets


def _report(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    del dataset.Rows, dataset.Columns, dataset.PixelData


def _sop_class(uid: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid

    return change


def _cut(paths: list[Path]) -> None:
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[:-700])


def _garbage(paths: list[Path]) -> None:
    paths[2].write_bytes(b"<html>404 Not Found</html>" * 50)


def _empty_file(paths: list[Path]) -> None:
    paths[2].write_bytes(b"")


def _padded_uids(paths: list[Path]) -> None:
    """Pad the UIDs of the third file with blanks instead of NUL."""
    content = paths[2].read_bytes()
    for keyword_bytes in (b"\x08\x00\x18\x00UI", b"\x20\x00\x0d\x00UI", b"\x20\x00\x0e\x00UI"):
        at = content.index(keyword_bytes) + 8
        length = int.from_bytes(content[at - 2 : at], "little")
        value = content[at : at + length].rstrip(b"\0").ljust(length, b" ")
        content = content[:at] + value + content[at + length :]
    paths[2].write_bytes(content)


_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyDescription")


def _names(character_set: bytes, name: str, encoding: str | None = None, prefix: bytes = b"") -> Make:
    encoded = prefix + name.encode(encoding or "ascii")
    return each(ct, put_raw(SpecificCharacterSet=character_set, PatientName=encoded))


# --- the cases --------------------------------------------------------------------------------------------------------


def _geometry() -> Iterable[MessyCase]:
    group = "Slices and their places"
    used = "All slices are used."
    out = "It is left out, named with the reason; the other slices are segmented."
    yield MessyCase(
        group,
        "The files come in any order, and InstanceNumber does not follow space",
        f"{used} Positions give the order.",
        _shuffled,
    )
    yield MessyCase(
        group,
        "A localizer (ImageType) in the series",
        out,
        one(ct, put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        (4,),
        1,
        "slices are missing",
    )
    yield MessyCase(
        group, "Nothing but localizers", used, each(ct, put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    )
    yield MessyCase(
        group,
        "A stack in three orientations, not marked as localizer",
        "The orientation with most slices is segmented; the others are left out with the reason and a warning.",
        _three_planes,
        (5,),
        4,
        "4 left out: another orientation",
    )
    yield MessyCase(
        group,
        "A slice of another matrix size",
        out,
        one(ct, put(Rows=36, Columns=32)),
        (4,),
        1,
        "1 left out: another size",
    )
    yield MessyCase(
        group,
        "A slice with another pixel spacing",
        out,
        one(ct, put(PixelSpacing=[0.35, 0.35])),
        (4,),
        1,
        "1 left out: another size, pixel spacing",
    )
    yield MessyCase(
        group,
        "A slice in another frame of reference",
        out,
        one(ct, put(FrameOfReferenceUID=SECOND_SERIES)),
        (4,),
        1,
        "frame of reference than most",
    )
    yield MessyCase(
        group,
        "Rounding noise (1e-6) in the direction cosines",
        f"{used} They get the direction cosines of the first.",
        one(ct, put(ImageOrientationPatient=[1, 1e-6, 0, 0, 1, -1e-6])),
    )
    yield MessyCase(
        group,
        "Direction cosines rounded to two digits (0.71)",
        used,
        _rounded,
    )
    yield MessyCase(
        group,
        "Direction cosines that are no two perpendicular unit vectors",
        "Refused: the geometry is damaged.",
        each(ct, put(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
        refused="not two perpendicular unit vectors",
    )
    yield MessyCase(
        group,
        "Direction cosines that are all zero",
        "Refused: the geometry is damaged.",
        each(ct, put(ImageOrientationPatient=[0] * 6)),
        refused="not two perpendicular unit vectors",
    )
    yield MessyCase(
        group,
        "Gantry tilt",
        f"{used} The reader is told that the volume is sheared.",
        lambda: ct(tilt_degrees=12),
        (5,),
        0,
        "gantry tilt",
    )
    yield MessyCase(
        group,
        "Missing slices",
        "The slices that came are segmented; the reader is told of the gaps.",
        lambda: ct(7, missing=(3, 4)),
        (5,),
        0,
        "slices are missing",
    )
    yield MessyCase(group, "A single slice", "It is segmented.", lambda: ct(1), (1,))
    yield MessyCase(
        group,
        "A slice that was sent twice under another SOPInstanceUID",
        "The first is used, the other is left out.",
        _repeated_slice,
        (5,),
        1,
        "another image at the place",
    )
    yield MessyCase(
        group,
        "Two slices with the same SOPInstanceUID",
        "The first is used, the other is left out.",
        _same_uid,
        (4,),
        1,
    )
    yield MessyCase(
        group,
        "One slice lacks its position or orientation",
        "Refused, with the SOPInstanceUID of the slice: it cannot be left out in silence.",
        one(ct, put(ImagePositionPatient=None)),
        refused="has no place among the others",
    )
    yield MessyCase(
        group,
        "No slice has a position",
        "The slices are segmented as single pictures.",
        each(ct, put(ImagePositionPatient=None)),
    )
    yield MessyCase(
        group,
        "No frame of reference",
        "The slices are segmented as single pictures.",
        each(ct, put(FrameOfReferenceUID=None)),
    )
    yield MessyCase(
        group,
        "No slice has PixelSpacing",
        "The slices are segmented as single pictures, and the reader is told.",
        each(ct, put(PixelSpacing=None)),
        warning="no usable pixel spacing",
    )
    yield MessyCase(
        group, "One slice has no PixelSpacing", out, one(ct, put(PixelSpacing=None)), (4,), 1, "pixel spacing"
    )
    yield MessyCase(
        group,
        "PixelSpacing is zero or negative",
        "As if there were none.",
        each(ct, put(PixelSpacing=[0, -0.7])),
        warning="no usable pixel spacing",
    )
    yield MessyCase(
        group,
        "PixelSpacing is empty",
        "As if there were none.",
        each(ct, put_raw(PixelSpacing=b"")),
        warning="no usable pixel spacing",
    )
    yield MessyCase(
        group,
        "A position that is NaN or infinite",
        "Refused, with the SOPInstanceUID of the slice.",
        one(ct, put_raw(ImagePositionPatient=b"NaN\\inf\\1")),
        refused="ImagePositionPatient does not hold 3 finite numbers",
    )
    yield MessyCase(
        group,
        "A position with a decimal comma",
        "Refused, with the SOPInstanceUID of the slice.",
        one(ct, put_raw(ImagePositionPatient=b"1,5\\2\\3")),
        refused="cannot be read (ValueError)",
    )
    yield MessyCase(
        group,
        "A position with two numbers",
        "Refused, with the SOPInstanceUID of the slice.",
        one(ct, put(ImagePositionPatient=[1, 2])),
        refused="ImagePositionPatient does not hold 3 finite numbers",
    )
    yield MessyCase(
        group,
        "SliceThickness is absent, empty, zero or no number",
        f"{used} The distance of neighbours takes its place in the object.",
        one(each(ct, put(SliceThickness=None)), put_raw(SliceThickness=b"thin"), 0),
    )
    yield MessyCase(
        group,
        "InstanceNumber is absent or no number",
        used,
        one(each(ct, put(InstanceNumber=None)), put_raw(InstanceNumber=b"A-7")),
    )


def _several() -> Iterable[MessyCase]:
    group = "Several volumes in one series"
    each_one = "Each is segmented for itself and becomes an object whose series description names it."
    yield MessyCase(
        group,
        "Cardiac phases or time points at the same places",
        each_one,
        lambda: phases(3, 3, 3, TemporalPositionIdentifier=[1, 2, 3]),
        (3, 3, 3),
    )
    yield MessyCase(
        group,
        "Phases with different numbers of slices",
        each_one,
        lambda: phases(5, 3, AcquisitionNumber=[1, 2]),
        (5, 3),
    )
    yield MessyCase(group, "Two echoes", each_one, lambda: phases(4, 4, EchoTime=[2.5, 10]), (4, 4))
    yield MessyCase(group, "Phases that only InstanceNumber tells apart", each_one, lambda: phases(4, 4), (4, 4))
    yield MessyCase(
        group, "One slice at many moments", "It is segmented as pictures over time: one object.", _time_series
    )
    yield MessyCase(
        group,
        "Several enhanced multi-frame instances",
        each_one,
        joined(lambda: enhanced(4), lambda: enhanced(6)),
        (4, 6),
    )
    yield MessyCase(group, "Several phases in one enhanced instance", each_one, in_frames(_second_phase), (3, 3))
    yield MessyCase(
        group,
        "Several runs",
        each_one,
        lambda: dicom_sources.xa_runs((3, 1, 2), 32, 36),
        (3, 1, 2),
    )


def _multi_frame() -> Iterable[MessyCase]:
    group = "Multi-frame objects"
    yield MessyCase(
        group,
        "One frame of an enhanced object has no plane position",
        "Refused, with the number of the frame.",
        in_frames(_without_plane),
        refused="frame 4 has no position or orientation",
    )
    yield MessyCase(group, "No frame has functional groups", "The frames are segmented as a run.", _empty_groups, (6,))
    yield MessyCase(
        group,
        "No pixel measures",
        "The frames are segmented as single pictures, and the reader is told.",
        _own_measures(lambda _groups, _index: None),
        (6,),
        0,
        "no usable pixel spacing",
    )
    yield MessyCase(
        group,
        "A frame with another pixel spacing",
        "It is left out; the others are segmented.",
        _own_measures(_other_spacing),
        (5,),
        0,
        "1 left out: another size, pixel spacing",
    )
    yield MessyCase(
        group, "All frames lie at one place (cine)", "The frames are segmented as a run.", in_frames(_one_place), (6,)
    )
    yield MessyCase(
        group,
        "An enhanced object of one frame without NumberOfFrames",
        "It is segmented.",
        each(lambda: enhanced(1), put(NumberOfFrames=None)),
        (1,),
    )
    yield MessyCase(
        group,
        "NumberOfFrames is more than the frames that are described",
        "Refused, with both numbers.",
        each(enhanced, put(NumberOfFrames=8)),
        refused="NumberOfFrames is 8, but 6 frames are described",
    )
    yield MessyCase(
        group,
        "NumberOfFrames is more than the pixel data holds",
        "Refused, with the SOPInstanceUID.",
        each(run, put(NumberOfFrames=9)),
        refused="Instance ",
    )
    yield MessyCase(
        group,
        "NumberOfFrames is absent from a run",
        "The first frame is segmented.",
        each(run, put(NumberOfFrames=None)),
        (1,),
    )
    yield MessyCase(
        group,
        "NumberOfFrames is zero or negative",
        "Refused.",
        each(run, put(NumberOfFrames=-3)),
        refused="NumberOfFrames is below 1",
    )
    yield MessyCase(
        group,
        "A run without FrameTime, FrameIncrementPointer or frame rate",
        "It is segmented.",
        each(run, put(FrameTime=None, FrameIncrementPointer=None, CineRate=None)),
        (4,),
    )


def _identity() -> Iterable[MessyCase]:
    group = "Patient and study"
    kept = "The name is kept letter by letter; the object is in Unicode (ISO_IR 192)."
    yield MessyCase(
        group,
        "PatientID, PatientName, PatientBirthDate, PatientSex absent",
        "Empty in the object.",
        each(ct, put(**dict.fromkeys(_PATIENT))),
    )
    yield MessyCase(
        group,
        "AccessionNumber, StudyID, StudyDate, StudyTime, ReferringPhysicianName absent",
        "Empty in the object.",
        each(ct, put(**dict.fromkeys(_STUDY))),
    )
    yield MessyCase(group, "PatientSex outside M, F, O", "Empty in the object.", each(ct, put(PatientSex="FEMALE")))
    yield MessyCase(
        group,
        "Dates and times that do not exist",
        "Empty in the object.",
        each(ct, put_raw(StudyDate=b"20241350", PatientBirthDate=b"29.02.1960", StudyTime=b"25:61:00")),
    )
    yield MessyCase(
        group,
        "Japanese names (ISO 2022 IR 87)",
        kept,
        _names(b"\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎", "iso2022_jp"),
    )
    yield MessyCase(
        group,
        "Korean names (ISO 2022 IR 149)",
        kept,
        _names(b"\\ISO 2022 IR 149", "Hong^Gildong=\x1b$)C洪^\x1b$)C吉洞", "euc_kr"),
    )
    yield MessyCase(
        group,
        "Chinese names (ISO 2022 IR 58)",
        kept,
        _names(b"\\ISO 2022 IR 58", "Zhang^XiaoDong=\x1b$)A张^\x1b$)A小东", "gb2312"),
    )
    yield MessyCase(group, "Chinese names (GB18030)", kept, _names(b"GB18030", "Wang^XiaoDong=王^小东", "gb18030"))
    yield MessyCase(
        group,
        "Non-ASCII bytes without SpecificCharacterSet",
        "The text as pydicom reads it; nothing fails.",
        each(ct, put_raw(SpecificCharacterSet=b"", PatientName="Müller^Jürgen".encode("latin-1"))),
    )
    yield MessyCase(
        group,
        "An unknown SpecificCharacterSet",
        "The text as pydicom reads it; nothing fails.",
        _names(b"KLINGON", "Worf^"),
    )
    yield MessyCase(
        group,
        "Several values where one belongs",
        "Identifying attributes keep all values; others are empty.",
        each(ct, put_raw(PatientID=b"A1\\B2", StudyDescription=b"One\\Two")),
    )
    yield MessyCase(
        group,
        "Texts far beyond their length",
        "Identifying attributes keep them; others are empty or cut.",
        each(
            ct,
            put(
                PatientName="N" * 300, StudyDescription="D" * 2000, Manufacturer="M" * 500, SeriesDescription="S" * 900
            ),
        ),
    )
    yield MessyCase(
        group,
        "Control characters in texts",
        "Identifying attributes keep them; elsewhere a blank takes their place.",
        each(
            ct,
            put_raw(PatientName=b"Doe\x07^John", StudyDescription=b"Angio\nrun\x00 1", SeriesDescription=b"a\x1fb"),
        ),
    )
    yield MessyCase(
        group,
        "Body part, laterality or time zone that mean nothing",
        "Not in the object.",
        each(ct, put(BodyPartExamined="SEE REPORT", Laterality="X", TimezoneOffsetFromUTC="CET")),
    )
    yield MessyCase(
        group,
        "Manufacturer absent",
        "The scanner is not named as contributing equipment.",
        each(ct, put(Manufacturer=None, ManufacturerModelName=None)),
    )


def _objects() -> Iterable[MessyCase]:
    group = "Files and objects"
    out = "It is left out, named with the reason; the others are segmented."
    yield MessyCase(
        group, "A report or presentation state in the series", out, one(ct, _report), (4,), 1, "slices are missing"
    )
    yield MessyCase(
        group,
        "An image of another SOP class",
        out,
        one(ct, _sop_class("1.2.840.10008.5.1.4.1.1.7")),
        (4,),
        1,
        "slices are missing",
    )
    yield MessyCase(
        group,
        "Nothing but objects without pixels",
        "Refused: there is nothing to segment.",
        each(ct, _report),
        refused="nothing to segment",
    )
    yield MessyCase(
        group,
        "A private SOP class with pixels",
        "Refused: the result could not refer to it in a way that others understand.",
        each(ct, _sop_class("1.3.46.670589.11.0.0.12.1")),
        refused="a SOP class that the DICOM Standard does not know",
    )
    yield MessyCase(group, "Private and unknown elements", "Not in the object.", _private)
    yield MessyCase(group, "UIDs padded with blanks", "Read without them.", ct, spoil=_padded_uids)
    yield MessyCase(
        group,
        "A UID that is none",
        "Refused, with the name of the attribute.",
        one(ct, put(StudyInstanceUID="1.02.x")),
        refused="StudyInstanceUID is missing or is no valid UID",
    )
    yield MessyCase(group, "Files of several series", "Refused.", lambda: [*ct(2), *ct(2)], refused="several series")
    yield MessyCase(
        group,
        "An image without Rows and Columns",
        "Refused, with its SOPInstanceUID.",
        one(ct, put(Rows=None)),
        refused="has no Rows and Columns",
    )
    yield MessyCase(
        group, "A file that ends too early", "Refused, with its SOPInstanceUID.", ct, spoil=_cut, refused="Instance "
    )
    yield MessyCase(
        group,
        "A file that is no DICOM, or empty",
        "Refused, with its place among the files.",
        ct,
        spoil=_garbage,
        refused="File 3 of 5",
    )
    yield MessyCase(
        group, "An empty file", "Refused, with its place among the files.", ct, spoil=_empty_file, refused="File 3 of 5"
    )


def _pixels() -> Iterable[MessyCase]:
    group = "Pixels"
    used = "All slices are used."
    yield MessyCase(group, "Transfer syntaxes that differ between slices", used, _mixed_transfer_syntaxes)
    yield MessyCase(group, "Explicit VR Big Endian", used, _big_endian)
    yield MessyCase(group, "Bit depths and signs that differ between slices", used, _mixed_bits)
    yield MessyCase(
        group, "Rescale slope and intercept that differ between slices", f"{used} Each has its own.", _rescale_per_slice
    )
    yield MessyCase(
        group,
        "MONOCHROME1",
        f"{used} They are turned, so that larger is brighter.",
        each(ct, put(PhotometricInterpretation="MONOCHROME1")),
    )
    yield MessyCase(
        group,
        "One slice is MONOCHROME1, the others MONOCHROME2",
        "It is left out.",
        one(ct, put(PhotometricInterpretation="MONOCHROME1")),
        (4,),
        1,
        "colour or frame of reference",
    )
    yield MessyCase(
        group,
        "ImageType, Modality, PatientPosition absent",
        used,
        each(ct, put(ImageType=None, Modality=None, PatientPosition=None)),
    )


CASES: tuple[MessyCase, ...] = (*_geometry(), *_several(), *_multi_frame(), *_identity(), *_objects(), *_pixels())

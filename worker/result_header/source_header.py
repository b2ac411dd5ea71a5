"""What a SEG object takes over from its source: patient, study and scanner, made clean without touching the source.

Sources are what modalities wrote, so any attribute may be missing, empty, too long or in any character set. Patient and
study must equal the source all the same, else the archive files the result elsewhere.
"""

import re
import warnings
from datetime import timedelta, timezone

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.valuerep import validate_value

from worker.result_header.catalogue import code_item
from worker.result_header.text_values import long_string
from worker.source_series import SourceSeries

IDENTIFYING = ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName")
"""Copied to the letter even where the value breaks its value representation: archives compare them."""

_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): empty where the source has none."""

_OPTIONAL = (
    "IssuerOfPatientID",
    "StudyDescription",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "TimezoneOffsetFromUTC",
    "BodyPartExamined",
)

_BODY_PART_TERMS = """
ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF
CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA
CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT GALLBLADDER
HAND HEAD HEADNECK HEART HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUNG
MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PAROTID
PATELLA PELVIS PENIS PHARYNX PROSTATE RECTUM RIB SCALP SCAPULA SCLERA SCROTUM SHOULDER SKULL SPINE SPLEEN SSPINE
STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYMUS THYROID TLSPINE TMJ TOE TONGUE TRACHEA TSPINE URETER
URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA
"""
_BODY_PARTS = frozenset(_BODY_PART_TERMS.split())
"""Defined terms of BodyPartExamined (PS3.16 annex L) that validators of all ages know; others are left out, since the
region of each segment is coded anyway."""

_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>0\d|1[0-4])(?P<minutes>[0-5]\d)")
_SEXES = frozenset({"M", "F", "O", ""})


def text_of(header: Dataset, keyword: str) -> str | list[str]:
    """The value as decoded text; ``""`` where the attribute is absent, empty or unreadable."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")  # pydicom warns of text that its character set cannot hold
        try:
            value = header.get(keyword)
        except (ValueError, TypeError, NotImplementedError, LookupError):
            return ""
        if isinstance(value, MultiValue):
            return [str(part) for part in value]
        return "" if value is None else str(value)


def copy_patient_and_study(source: SourceSeries, target: Dataset) -> None:
    """Set patient and study attributes of ``target`` from the first source instance, in Unicode.

    Required attributes that are absent become empty, values that do not fit their value representation too, except the
    identifying ones.
    """
    header = source.datasets[0]
    target.SpecificCharacterSet = "ISO_IR 192"
    target.StudyInstanceUID = header.StudyInstanceUID
    for keyword in (*_REQUIRED, *_OPTIONAL):
        value = text_of(header, keyword)
        if keyword == "StudyDescription" and isinstance(value, str):
            value = long_string(value)
        if keyword not in IDENTIFYING and not _fits(keyword, value):
            value = ""
        if value or keyword in _REQUIRED:
            _set(target, keyword, value)
    if target.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in target:
        del target.PatientIdentityRemoved  # it may not stand without the method (type 1C, PS3.3 C.7.1.1)


def _fits(keyword: str, value: str | list[str]) -> bool:
    if keyword == "PatientSex":
        return value in _SEXES
    if isinstance(value, list):
        return False
    if keyword == "BodyPartExamined":
        return value in _BODY_PARTS
    if keyword == "TimezoneOffsetFromUTC":
        return _OFFSET.fullmatch(value) is not None
    try:
        validate_value(dictionary_VR(keyword), value, config.RAISE)
    except ValueError:
        return False
    return True


def _set(target: Dataset, keyword: str, value: str | list[str]) -> None:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    target.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))


def time_zone(source: SourceSeries) -> timezone | None:
    """The zone of the dates and times of the source (TimezoneOffsetFromUTC, PS3.3 C.12.1.1.8), None if untold."""
    text = text_of(source.datasets[0], "TimezoneOffsetFromUTC")
    match = None if isinstance(text, list) else _OFFSET.fullmatch(text)
    if match is None:
        return None
    offset = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"]))
    return timezone(-offset if match["sign"] == "-" else offset)


def patient_orientation(source: SourceSeries) -> str | list[str]:
    """PatientOrientation that all source instances agree on, else ``""`` (type 2C, PS3.3 C.7.6.1)."""
    values = [text_of(header, "PatientOrientation") for header in source.datasets]
    first = values[0]
    agreed = isinstance(first, list) and len(first) == 2 and all(value == first for value in values)
    return first if agreed and all(map(_is_direction, first)) else ""


def _is_direction(text: str) -> bool:
    return text != "" and set(text) <= set("APRLHFTC")


def of_series(source: SourceSeries) -> str:
    """How a series description says what the object belongs to, for example `` of series 3, phase 2 of 10``."""
    number = text_of(source.datasets[0], "SeriesNumber")
    words = f" of series {number}" if isinstance(number, str) and number.isdigit() else ""
    return f"{words}, {source.part_label}" if source.part_label else words


def lossy_compression(source: SourceSeries) -> Dataset:
    """LossyImageCompression with ratio and method: once lossy, always said (PS3.3 C.7.6.1.1.5)."""
    found = Dataset()
    found.LossyImageCompression = "00"
    for header in source.datasets:
        if text_of(header, "LossyImageCompression") != "01":
            continue
        found.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            value = text_of(header, keyword)
            if value and keyword not in found:
                _set(found, keyword, value)
    return found


def acquisition_equipment(source: SourceSeries) -> Dataset | None:
    """The scanner as an item of ContributingEquipmentSequence, None where the source names no manufacturer."""
    header = source.datasets[0]
    item = Dataset()
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        value = text_of(header, keyword)
        parts = [long_string(part) for part in ([value] if isinstance(value, str) else value)]
        if any(parts):
            _set(item, keyword, parts if len(parts) > 1 else parts[0])
    if not item.get("Manufacturer"):
        return None
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.AcquisitionEquipment)]
    return item

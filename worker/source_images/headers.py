"""Headers of the files of one series: read up to the pixel data, checked for what every later step relies on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_core.errors import DamagedSourceError, UnsupportedSourceError
from dicom_core.identifiers import is_uid
from worker.source_images.damage import damage_named, pydicom_silenced

_UNDEFINED_LENGTH = 0xFFFFFFFF
_NECESSARY_UIDS = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, slots=True, eq=False)
class SourceHeader:
    """One instance without its pixel data; equal only to itself.

    Attributes:
        dataset: Everything before the pixel data, with ``file_meta``.
        path: The file.
        rows: Rows, 0 in an object that is no image.
        columns: Columns, 0 in an object that is no image.
        number_of_frames: 1 where NumberOfFrames is absent.
    """

    dataset: Dataset
    path: Path
    rows: int
    columns: int
    number_of_frames: int

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def sop_class(self) -> UID:
        """SOPClassUID."""
        return UID(self.dataset.SOPClassUID)

    @property
    def name(self) -> str:
        """How errors call this instance."""
        return f"Instance {self.uid}"

    def text(self, keyword: str) -> str:
        """The attribute's value as text, "" where it is absent, empty or unreadable."""
        return text(self.dataset, keyword)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """The attribute's ``count`` numbers, None where it is absent or empty.

        Raises:
            DamagedSourceError: There are more or fewer values than ``count``, or one is not finite.
        """
        return numbers(self.dataset, keyword, count)


def text(dataset: Dataset, keyword: str) -> str:
    """The attribute's value as text, "" where it is absent, empty or unreadable."""
    try:
        value = dataset.get(keyword)
    except (ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError):
        return ""
    return "" if value is None else str(value).strip()


def spacing(dataset: Dataset) -> tuple[float, ...]:
    """PixelSpacing in millimetres, between rows and between columns; empty where it is absent or no distance.

    Raises:
        DamagedSourceError: There are not two finite numbers.
    """
    found = numbers(dataset, "PixelSpacing", 2) or ()
    return found if found and min(found) > 0 else ()


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The ``count`` numbers of one attribute, None where it is absent or empty.

    Raises:
        DamagedSourceError: There are more or fewer values than ``count``, or one is not finite.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    values = tuple(float(number) for number in ([value] if isinstance(value, (int, float)) else value))
    if len(values) not in (0, count) or not all(math.isfinite(number) for number in values):
        raise DamagedSourceError(f"{keyword} does not hold {count} finite numbers")
    return values or None


def read_headers(paths: Sequence[Path]) -> list[SourceHeader]:
    """Read the headers of all files of a series.

    Raises:
        SourceError: One of the files cannot be read; the text names its SOPInstanceUID, or its place in ``paths``.
    """
    headers = []
    with pydicom_silenced():
        for number, path in enumerate(paths, 1):
            name = f"File {number} of {len(paths)}"
            with damage_named(name):
                file_meta = read_file_meta_info(path)
                uid = str(file_meta.get("MediaStorageSOPInstanceUID") or "")
            with damage_named(f"Instance {uid}" if is_uid(uid) else name):
                headers.append(_read_header(path, file_meta))
    return headers


def _read_header(path: Path, file_meta: FileMetaDataset) -> SourceHeader:
    # Looked at before anything else is read: pydicom inflates a deflated data set as a whole, and one megabyte of it
    # can hold gigabytes.
    if file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise UnsupportedSourceError("the deflated transfer syntax is not taken; send it uncompressed or as JPEG 2000")
    dataset = dcmread(path, stop_before_pixels=True)
    _check_last_element(dataset)
    for keyword in _NECESSARY_UIDS:
        if not is_uid(str(dataset.get(keyword) or "")):
            raise DamagedSourceError(f"{keyword} is missing or is no valid UID; repair the object at its source")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    number_of_frames = dataset.get("NumberOfFrames")
    header = SourceHeader(dataset, path, rows, columns, 1 if number_of_frames in (None, "") else int(number_of_frames))
    _check_number_of_frames(header)
    return header


def _check_last_element(dataset: Dataset) -> None:
    """Refuse a file that ends in the middle of a value: pydicom would take the first part for the whole."""
    last = cast("object", dataset.get_item(max(dataset.keys())) if len(dataset) else None)
    if isinstance(last, RawDataElement) and len(last.value or b"") < last.length < _UNDEFINED_LENGTH:
        raise DamagedSourceError("the file ends in the middle of its header; send it again")


def _check_number_of_frames(header: SourceHeader) -> None:
    """Refuse counts that later steps would turn into endless lists: a frame takes at least one bit of the file."""
    if header.number_of_frames < 1:
        raise DamagedSourceError("NumberOfFrames is below 1")
    if header.number_of_frames > 8 * header.path.stat().st_size:
        raise DamagedSourceError(f"the file is too short for {header.number_of_frames} frames")

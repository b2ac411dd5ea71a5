"""Small Segmentation objects in files, for tests that only carry them about; generated, for no source image.

::

    result = segmentation_file(tmp_path)
    destination.send(result.path, **result.uids)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid


@dataclass(frozen=True)
class SegmentationFile:
    """A file and what names it.

    Attributes:
        path: A DICOM file, Explicit VR Little Endian.
        uids: Keyword arguments of ``Destination.send``.
        pixel_data: One bit a pixel, packed.
    """

    path: Path
    uids: dict[str, str]
    pixel_data: bytes

    @property
    def sop_instance_uid(self) -> str:
        """Of the object."""
        return self.uids["sop_instance_uid"]

    @property
    def study_instance_uid(self) -> str:
        """Of the object."""
        return self.uids["study_instance_uid"]

    def data_set(self) -> bytes:
        """The encoded data set behind the File Meta Information, as it goes over the wire."""
        content = self.path.read_bytes()
        return content[144 + int.from_bytes(content[140:144], "little") :]


def segmentation_file(
    folder: Path, *, frames: int = 2, size: int = 64, study_instance_uid: str = "", sop_instance_uid: str = ""
) -> SegmentationFile:
    """Write a BINARY segmentation with random pixels of ``frames`` x ``size`` x ``size`` into ``folder``."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SegmentationStorage
    dataset.SOPInstanceUID = sop_instance_uid or generate_uid()
    dataset.StudyInstanceUID = study_instance_uid or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "SEG"
    dataset.PatientID = "generated"
    dataset.SegmentationType = "BINARY"
    dataset.Rows = dataset.Columns = size
    dataset.NumberOfFrames = frames
    dataset.BitsAllocated = dataset.BitsStored = dataset.SamplesPerPixel = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = np.random.default_rng().bytes(frames * size * size // 8)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    uids = {
        "sop_instance_uid": str(dataset.SOPInstanceUID),
        "study_instance_uid": str(dataset.StudyInstanceUID),
        "series_instance_uid": str(dataset.SeriesInstanceUID),
    }
    return SegmentationFile(path, uids, dataset.PixelData)

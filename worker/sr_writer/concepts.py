"""The coded names of what is measured, and its units.

SNOMED CT and DICOM name most of it. What they have no name for is in a private coding scheme, which every report
declares in its Coding Scheme Identification Sequence (PS3.3 C.12.1.1.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_core.identifiers import MANUFACTURER
from worker.image_stack import Imaging
from worker.measurements.vessel_measurements import NO_UNIT, PERCENT, PIXELS, VOXELS, Quantity

PRIVATE_SCHEME = "99VESSELQ"
"""A designator of PS3.16 section 8.2: "99" marks it as private."""


@dataclass(frozen=True, slots=True)
class Concept:
    """How a quantity is named in a report.

    Attributes:
        name: The concept name of the NUM content item.
        derivation: How the number was made of many, (121401, DCM, "Derivation"); None where there is nothing to say.
    """

    name: Code
    derivation: Code | None = None


def _private(value: str, meaning: str) -> Concept:
    return Concept(Code(value, PRIVATE_SCHEME, meaning))


CONCEPTS: Mapping[Quantity, Concept] = {
    Quantity.AREA: Concept(codes.SCT.Area),
    Quantity.AREA_PERCENT: _private("AREASHARE", "Vessel area as a share of the field of view"),
    Quantity.VOLUME: Concept(codes.SCT.Volume),
    Quantity.LENGTH: Concept(codes.SCT.Length),
    Quantity.LENGTH_DENSITY: _private("LENGTHDENSITY", "Length of centre lines per area of the field of view"),
    Quantity.DIAMETER_MEAN: Concept(codes.SCT.Diameter, codes.SCT.Mean),
    Quantity.DIAMETER_MEDIAN: Concept(codes.SCT.Diameter, codes.SCT.Median),
    Quantity.DIAMETER_MAXIMUM: Concept(codes.SCT.Diameter, codes.SCT.Maximum),
    Quantity.TORTUOSITY: _private("TORTUOSITY", "Tortuosity: centre line length over distance of ends"),
    Quantity.BRANCH_POINTS: _private("BRANCHPOINTS", "Number of branch points of the centre lines"),
}

UNITS: Mapping[str, Code] = {
    "mm": Code("mm", "UCUM", "mm"),
    "mm2": Code("mm2", "UCUM", "mm2"),
    "mm3": Code("mm3", "UCUM", "mm3"),
    "/mm": Code("/mm", "UCUM", "per mm"),
    PIXELS: Code(PIXELS, "UCUM", "pixels"),
    f"/{PIXELS}": Code(f"/{PIXELS}", "UCUM", "per pixel"),
    VOXELS: Code(VOXELS, "UCUM", "voxels"),
    PERCENT: Code(PERCENT, "UCUM", "percent"),
    NO_UNIT: Code(NO_UNIT, "UCUM", "no units"),
}
"""By the unit of a measurement."""

_PROCEDURES: Mapping[Imaging, Code] = {
    Imaging.CT: codes.LN.CTUnspecifiedBodyRegion,
    Imaging.MR: codes.LN.MRIUnspecifiedBodyRegion,
    Imaging.XRAY_ANGIOGRAPHY: codes.SCT.Angiography,
}
_IMAGING_PROCEDURE: Code = codes.SCT.ImagingProcedure


def procedure_of(imaging: Imaging) -> Code:
    """The imaging procedure that is reported on (PS3.16 CID 100), as far as the kind of picture tells."""
    return _PROCEDURES.get(imaging, _IMAGING_PROCEDURE)


def private_scheme() -> Dataset:
    """Item of the Coding Scheme Identification Sequence."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = "vesselq measurements of vessels"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item

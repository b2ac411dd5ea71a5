"""The rules of a site that has written none: what vesselq is made for, and plain words for what it leaves out."""

from typing import Any

from dicom_core.identifiers import MANUFACTURER
from dicom_core.routing import Rule

_NOT_IMAGES = [
    "SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "FID", "ECG", "HD", "AU", "DOC", "PLAN",
    "ANN", "RWV", "M3D", "STAIN",
]  # fmt: skip
_WITHOUT_CONTRAST = r"(?!.*\b(non|no|without|w/?o|ohne|sans)\b[\W_]*(iv[\W_]*)?(contrast|k\.?m\b))"
_CONTRAST_WORDS = _WITHOUT_CONTRAST + (
    r".*(angio|\bcta\b|\bmra\b|\btof\b|contrast|arterial|art[eé]riel|venous|portal|\bk\.?m\b|\bc\+|\bgd\b).*"
)


def _is(keyword: str, *values: str) -> dict[str, Any]:
    return {"keyword": keyword, "one_of": list(values)}


def _says(keyword: str, pattern: str) -> dict[str, Any]:
    return {"keyword": keyword, "matches": pattern}


_OPHTHALMIC_EN_FACE = ["1.2.840.10008.5.1.4.1.1.77.1.5.7"]
_CONTRAST = {
    "any": [
        {"keyword": "ContrastBolusAgent", "exists": True},
        _says("SeriesDescription", _CONTRAST_WORDS),
        _says("ProtocolName", _CONTRAST_WORDS),
        _says("StudyDescription", _CONTRAST_WORDS),
    ]
}

DEFAULT_RULES: tuple[Rule, ...] = tuple(
    Rule.model_validate(rule)
    for rule in (
        {
            "name": "own-results",
            "when": {"all": [_is("Manufacturer", MANUFACTURER)]},
            "skip": "made by vesselq itself",
        },
        {
            "name": "not-images",
            "when": _is("Modality", *_NOT_IMAGES),
            "skip": "not an image: there is nothing to segment in this kind of object",
        },
        {
            "name": "localizers",
            "when": {
                "any": [_is("ImageType", "LOCALIZER"), _says("SeriesDescription", r".*(scout|topogram|localizer).*")]
            },
            "skip": "a localizer: its images only plan the other series",
        },
        {
            "name": "xray-angiography",
            "when": _is("Modality", "XA", "XRF", "RF"),
            "segmenter": "ridge",
        },
        {
            "name": "eye",
            "when": {"any": [_is("Modality", "OP", "OPTENF"), _is("SOPClassUID", *_OPHTHALMIC_EN_FACE)]},
            "segmenter": "ridge",
        },
        {"name": "oct", "when": _is("Modality", "OPT"), "segmenter": "ridge"},
        {
            "name": "contrast-ct-mr",
            "when": {"all": [_is("Modality", "CT", "MR"), _CONTRAST]},
            "segmenter": "ridge",
        },
    )
)

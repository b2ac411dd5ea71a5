"""The rules of a site that has written none: what vesselq is made for, and plain words for what it leaves out."""

from typing import Any

from dicom_core.identifiers import MANUFACTURER
from dicom_core.routing import Rule

_NOT_IMAGES = [
    "SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "FID", "ECG", "HD", "AU", "DOC", "PLAN",
    "ANN", "RWV", "M3D", "STAIN",
]  # fmt: skip
# Names of series are words joined by spaces, underscores or digits ("HEAD_CTA", "3DTOF"), which \b does not see.
_BEGIN, _END = r"(?<![a-z0-9])", r"(?![a-z0-9])"
_WITHOUT_CONTRAST = (
    # "with/without" and "with and without" are with; "W/O" and "without" alone are not
    r"(?!.*(?<![a-z0-9/])(?<!and )(?<!und )(non|no|without|w/?o|ohne|sans)[\W_]*(iv[\W_]*)?(contrast|k\.?m"
    + _END
    + "))"
    r"(?!.*contrast[\W_]*(none|no|kein)" + _END + ")"
)
_CONTRAST_WORDS = (
    _WITHOUT_CONTRAST
    + r".*(angio|contrast|arterial|art[eé]riel|venous|portal|"
    + _BEGIN
    + r"(cta|(ce-?)?mra|([23]d)?tof([23]d)?|k\.?m|gd|c\+)"
    + _END
    + ").*"
)


def _is(keyword: str, *values: str) -> dict[str, Any]:
    return {"keyword": keyword, "one_of": list(values)}


def _says(keyword: str, pattern: str) -> dict[str, Any]:
    return {"keyword": keyword, "matches": pattern}


_OPHTHALMIC_EN_FACE = ["1.2.840.10008.5.1.4.1.1.77.1.5.7"]
_XRAY_3D = ["1.2.840.10008.5.1.4.1.1.13.1.1"]
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
        # Modality XA too, but slices through space: the network for angiograms looks at pictures and runs only.
        {"name": "xray-3d", "when": _is("SOPClassUID", *_XRAY_3D), "segmenter": "ridge"},
        {
            "name": "xray-angiography",
            "when": _is("Modality", "XA", "XRF", "RF"),
            "segmenter": "vesselnet",
        },
        {
            "name": "eye",
            "when": {"any": [_is("Modality", "OP", "OPTENF"), _is("SOPClassUID", *_OPHTHALMIC_EN_FACE)]},
            "segmenter": "vesselnet",
        },
        {"name": "oct", "when": _is("Modality", "OPT"), "segmenter": "ridge"},
        {
            "name": "contrast-ct-mr",
            "when": {"all": [_is("Modality", "CT", "MR"), _CONTRAST]},
            "segmenter": "ridge",
        },
    )
)

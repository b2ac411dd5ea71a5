"""Which kind of picture an instance holds, as far as a segmenter cares."""

from pydicom import uid
from pydicom.dataset import Dataset

from worker.image_stack import Imaging

_BY_SOP_CLASS = {
    uid.CTImageStorage: Imaging.CT,
    uid.EnhancedCTImageStorage: Imaging.CT,
    uid.LegacyConvertedEnhancedCTImageStorage: Imaging.CT,
    uid.MRImageStorage: Imaging.MR,
    uid.EnhancedMRImageStorage: Imaging.MR,
    uid.EnhancedMRColorImageStorage: Imaging.MR,
    uid.LegacyConvertedEnhancedMRImageStorage: Imaging.MR,
    uid.XRayAngiographicImageStorage: Imaging.XRAY_ANGIOGRAPHY,
    uid.EnhancedXAImageStorage: Imaging.XRAY_ANGIOGRAPHY,
    uid.XRayRadiofluoroscopicImageStorage: Imaging.XRAY_ANGIOGRAPHY,
    uid.EnhancedXRFImageStorage: Imaging.XRAY_ANGIOGRAPHY,
    # A reconstruction from rotation: density in space as in CT, vessels bright.
    uid.XRay3DAngiographicImageStorage: Imaging.CT,
    uid.OphthalmicPhotography8BitImageStorage: Imaging.FUNDUS,
    uid.OphthalmicPhotography16BitImageStorage: Imaging.FUNDUS,
    uid.WideFieldOphthalmicPhotographyStereographicProjectionImageStorage: Imaging.FUNDUS,
    uid.WideFieldOphthalmicPhotography3DCoordinatesImageStorage: Imaging.FUNDUS,
    uid.OphthalmicTomographyImageStorage: Imaging.OCT,
    uid.OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage: Imaging.OCT,
    uid.OphthalmicOpticalCoherenceTomographyEnFaceImageStorage: Imaging.OCT_ANGIOGRAPHY,
    uid.UltrasoundImageStorage: Imaging.ULTRASOUND,
    uid.UltrasoundMultiFrameImageStorage: Imaging.ULTRASOUND,
    uid.EnhancedUSVolumeStorage: Imaging.ULTRASOUND,
}
_BY_MODALITY = {
    "CT": Imaging.CT,
    "MR": Imaging.MR,
    "XA": Imaging.XRAY_ANGIOGRAPHY,
    "RF": Imaging.XRAY_ANGIOGRAPHY,
    "OP": Imaging.FUNDUS,
    "OPT": Imaging.OCT,
    "OPTBSV": Imaging.OCT,
    "OPTENF": Imaging.OCT_ANGIOGRAPHY,
    "US": Imaging.ULTRASOUND,
    "IVUS": Imaging.ULTRASOUND,
}


def imaging_of(dataset: Dataset) -> Imaging:
    """The kind of picture, from the SOP class, else (secondary capture and the like) from Modality (PS3.3 C.7.3.1.1.1).

    Args:
        dataset: The header of an instance.

    Returns:
        ``Imaging.OTHER`` where neither tells. An Ophthalmic Tomography image whose ImageType says that it is a
        projection seen from the front counts as OCT angiography.
    """
    sop_class = uid.UID(str(dataset.get("SOPClassUID") or ""))
    imaging = _BY_SOP_CLASS.get(sop_class) or _BY_MODALITY.get(str(dataset.get("Modality") or ""), Imaging.OTHER)
    if imaging is Imaging.OCT and {"EN FACE", "ENFACE"} & {
        str(word).upper() for word in dataset.get("ImageType") or ()
    }:
        return Imaging.OCT_ANGIOGRAPHY
    return imaging

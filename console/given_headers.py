"""The header of a DICOM object that a person gives: a file, the first bytes of one, or the DICOM JSON Model.

pydicom is imported when somebody gives one: it takes longer than all the rest of the pages.
"""

import json
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_core.errors import NotFoundError, SourceError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_FUNCTIONAL_GROUPS = 0x52009229
"""No rule looks at what begins here: the descriptions of single frames, which may be long, and pixel data."""
_NO_DICOM = "this is no DICOM file (PS3.10 section 7.1)"


def header_of_file(path: Path) -> "Dataset":
    """The header of a file, without pixel data.

    Raises:
        NotFoundError: There is no such file.
        SourceError: It is no DICOM file, or its header cannot be read.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} is no file")
    return _read(path)


def header_of_bytes(content: bytes) -> "Dataset":
    """The header of a file of which these are the first bytes, at least up to the pixel data.

    Raises:
        SourceError: They are not the beginning of a DICOM file, or the header cannot be read.
    """
    return _read(BytesIO(content))


def _read(source: Path | BytesIO) -> "Dataset":
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial

    try:
        with warnings.catch_warnings():
            # of values that break rules of their VR: intake takes these as well
            warnings.simplefilter("ignore")
            if isinstance(source, Path):
                with source.open("rb") as file:
                    return read_partial(file, stop_when=_is_beyond)
            return read_partial(source, stop_when=_is_beyond)
    except InvalidDicomError:
        raise SourceError(_NO_DICOM) from None
    except Exception as error:  # noqa: BLE001  the edge: a hostile file may raise anything
        raise SourceError(f"the header of this file cannot be read ({type(error).__name__})") from None


def _is_beyond(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >= _FUNCTIONAL_GROUPS


def header_of_json(values: Mapping[str, Any]) -> "Dataset":
    """A header in the DICOM JSON Model (PS3.18 annex F).

    Raises:
        SourceError: It is none.
    """
    from pydicom.dataset import Dataset

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            json.dumps(values, ensure_ascii=False).encode()  # half a character would be told of, and cannot be sent
            return Dataset.from_json(dict(values))
    except Exception as error:  # noqa: BLE001  the edge: any JSON may come
        raise SourceError(f"this is no data set in the DICOM JSON Model ({type(error).__name__})") from None

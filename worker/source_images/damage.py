"""The edge where whatever goes wrong in a source object becomes one of our errors and gets the name of the instance."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_core.errors import DamagedSourceError, SourceError, SourceTooLargeError, SpoolError


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn every exception of the block into a SourceError whose text begins with ``name``.

    Bytes from outside make pydicom and the codecs raise nearly anything (struct.error, RecursionError, KeyError, ...).
    Their texts may quote attribute values, so only the kind of an unexpected error is passed on.

    Args:
        name: Which instance, and which frame where there is one, in words and UIDs; never a file name.

    Raises:
        SourceError: Of the same class when the block raised one.
        SourceTooLargeError: Memory ran out.
        SpoolError: The disk, not the object: another try can help.
        DamagedSourceError: Anything else.
    """
    try:
        yield
    except SpoolError:
        raise
    except SourceError as error:
        raise type(error)(f"{name}: {error}") from error
    except OSError as error:
        if error.errno is None:  # pydicom raises these for bytes that it does not understand
            raise DamagedSourceError(f"{name} cannot be read ({type(error).__name__}); send the study again") from error
        raise SpoolError(f"{name}: its file cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise SourceTooLargeError(f"{name}: decoding needs more memory than the worker may use") from error
    except Exception as error:
        # The edge described above: nothing raw may leave it.
        raise DamagedSourceError(f"{name} cannot be read ({type(error).__name__}); send the study again") from error


@contextmanager
def pydicom_silenced() -> Iterator[None]:
    """Drop pydicom's warnings and log lines in the block: they quote attribute values, which may be patient data.

    Not for use in threads: warning filters and logger belong to the whole process.
    """
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled

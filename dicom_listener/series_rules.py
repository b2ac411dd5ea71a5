"""The rules applied to the headers of a stored series."""

from collections.abc import Sequence
from itertools import islice

import pydicom
from pydicom.dataset import Dataset

from dicom_core.errors import SpoolError
from dicom_core.routing import Rule, first_match, made_by_vesselq
from dicom_core.spool import Spool
from dicom_core.study import StoredSeries

MOST_HEADERS_READ = 200
"""Of a series that no rule wants: reading more would cost time and tell nothing new."""
OWN_RESULT = "made by vesselq itself"
_ALWAYS_READ = ("Manufacturer", "Modality", "SOPClassUID")


class SeriesRules:
    """Decides which rule is for a series."""

    def __init__(self, rules: Sequence[Rule], spool: Spool) -> None:
        self._rules = rules
        self._spool = spool
        keywords = frozenset(_ALWAYS_READ).union(*(rule.when.keywords() for rule in rules))
        self._keywords = sorted(keywords)

    def decide(self, series: StoredSeries) -> tuple[Rule | None, str]:
        """The rule that wants the series, or the reason in words why it is left out.

        A rule that segments wins over one that skips, so that a localizer among the slices does not hide the series.

        Raises:
            SpoolError: The files of the series cannot be read.
        """
        if not series.instances:
            return None, "none of its files is stored any more"
        if series.absent:
            return None, f"{series.absent} of its images are no longer kept; send the whole series again"
        skipped_by: Rule | None = None
        problem = ""
        for instance in islice(series.instances, MOST_HEADERS_READ):
            try:
                header = self._header(instance.path)
                own = made_by_vesselq(header)
                rule = first_match(self._rules, header)
            except OSError as error:
                # the disk, not the object: the study waits for the next pass
                raise SpoolError(f"a stored file cannot be read: {error.strerror}") from error
            except Exception:  # noqa: BLE001  a hostile header may raise anything; it must end in words, not in a crash
                problem = f"the header of instance {instance.sop_instance_uid} cannot be read"
                continue
            if own:
                return None, OWN_RESULT
            if rule is not None and rule.segmenter:
                return rule, ""
            skipped_by = skipped_by or rule
        if skipped_by is not None:
            return skipped_by, skipped_by.skip
        return None, problem or f"no rule wants it (Modality {series.modality or 'unknown'})"

    def _header(self, path: str) -> Dataset:
        file = self._spool.path(path)
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(self._keywords))

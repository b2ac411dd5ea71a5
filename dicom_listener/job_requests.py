"""From a quiet study to what is to be done with each of its series."""

import hashlib
import json
from ipaddress import ip_address, ip_network

from dicom_core.chain import tables_of
from dicom_core.errors import ConfigurationError, ConflictError
from dicom_core.job import JobRequest, JobState
from dicom_core.prompt import Prompt
from dicom_core.result import DEFAULT_RESULTS, ResultKind
from dicom_core.setting_tables import PeerSettings
from dicom_core.settings import SENDER, Settings
from dicom_core.spool import Spool
from dicom_core.study import QuietStudy, StoredSeries, input_hash
from dicom_listener.series_rules import OWN_RESULT, SeriesRules


class JobRequests:
    """Decides what is done with the series of a study."""

    def __init__(self, settings: Settings, spool: Spool) -> None:
        self._settings = settings
        self._rules = SeriesRules(settings.rules, spool)

    def for_study(self, study: QuietStudy) -> list[JobRequest]:
        """One request a series; a series that no rule wants gets one too, SKIPPED with its reason."""
        return [self._for_series(series) for series in study.series]

    def by_hand(self, series: StoredSeries, prompt: Prompt, segmenter: str = "") -> JobRequest:
        """What a person asks of one series, whatever the rules say of it; where the result goes is up to its rule.

        A series that no rule segments goes back to its sender, as it does with a rule that names no destination.

        Args:
            series: From ``db.studies.series_to_run_again``.
            prompt: What is asked; it is marked as given by hand.
            segmenter: Instead of that of the rule.

        Raises:
            ConflictError: It is a result of vesselq itself.
            ConfigurationError: No segmenter is named, and no rule names one.
            SpoolError: The files of the series cannot be read.
        """
        rule, reason = self._rules.decide(series)
        if reason == OWN_RESULT:
            raise ConflictError("a result of vesselq itself is never segmented")
        if not segmenter and (rule is None or not rule.segmenter):
            raise ConfigurationError(f"name a segmenter: the rules name none for this series ({reason})")
        asked = prompt.model_copy(update={"by_hand": True})
        segmenter = segmenter or (rule.segments_by if rule else "")
        destinations = rule.destinations if rule else (SENDER,)
        return JobRequest(
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            state=JobState.QUEUED,
            reason="",
            rule=rule.name if rule else "",
            segmenter=segmenter,
            prompt=asked.stored(),
            destinations=destinations,
            priority=rule.priority if rule else 0,
            input_hash=input_hash(series.instances),
            configuration_hash=self._configuration_hash(segmenter, asked),
            wanted={name: self._results_for(name, series) for name in destinations},
        )

    def _for_series(self, series: StoredSeries) -> JobRequest:
        rule, reason = self._rules.decide(series)
        wanted = rule is not None and not reason
        return JobRequest(
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            state=JobState.QUEUED if wanted else JobState.SKIPPED,
            reason=reason,
            rule=rule.name if rule else "",
            segmenter=rule.segments_by if rule and wanted else "",
            prompt=rule.prompt.stored() if rule and wanted else "",
            destinations=rule.destinations if rule and wanted else (),
            priority=rule.priority if rule and wanted else 0,
            input_hash=input_hash(series.instances),
            configuration_hash=self._configuration_hash(rule.segments_by, rule.prompt)
            if rule and wanted
            else self._configuration_hash("", Prompt()),
            wanted={name: self._results_for(name, series) for name in rule.destinations} if rule and wanted else {},
        )

    def _results_for(self, destination: str, series: StoredSeries) -> tuple[ResultKind, ...]:
        """The kinds of object that a destination gets now: a job goes on with the settings that it began with."""
        if destination != SENDER:
            configured = self._settings.destination(destination)
            return configured.results if configured else DEFAULT_RESULTS
        peers = [peer for peer in self._settings.peers if peer.ae_title == series.calling_ae_title]
        named = [peer for peer in peers if calls_from(peer, series.peer_address)]
        return next((peer.results for peer in (*named, *peers)), DEFAULT_RESULTS)

    def _configuration_hash(self, segmenter: str, prompt: Prompt) -> str:
        """Over everything in the settings that decides the result, not over where it goes or how urgent it is.

        Nor over the kinds of object that destinations get: each object is what it is whatever else is made.
        """
        tables = tables_of(segmenter, self._settings.models)
        decides = {
            "segmenter": segmenter,
            "prompt": prompt.stored(),
            # the table of one model as it was hashed before there were chains: an upgrade makes no study new
            "model": tables.get(segmenter, {}) if set(tables) <= {segmenter} else tables,
            "segmentation": self._settings.segmentation.model_dump(exclude={"series_number"}),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def calls_from(peer: PeerSettings, address: str) -> bool:
    """Whether ``address`` is in one of the networks that the settings name; host names are not looked up here."""
    caller = ip_address(address.partition("%")[0])
    caller = getattr(caller, "ipv4_mapped", None) or caller
    for entry in peer.addresses:
        try:
            if caller in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue  # a host name
    return not peer.addresses

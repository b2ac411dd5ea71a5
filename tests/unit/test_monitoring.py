"""The alert rules and the dashboard ask for metrics and labels that there are; compose runs what their guide says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from console_site import ConsoleSite
from prometheus_client import CollectorRegistry, Metric

from console.web.metrics import SiteMetrics
from console.web.metrics_since_start import MetricsSinceStart
from db import deliveries, jobs, processes
from db.audit import Event, Outcome
from db.audit_checkpoints import CheckpointFile
from db.models import AuditForwarding
from db.stuck_work import Kind
from dicom_core.job import JobState, KeptResult
from dicom_core.result import ResultKind, ResultObject
from dicom_core.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
_SELECTOR = re.compile(r"\b(vesselq_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')
_KNOWN_VALUES = {
    "event": {event.word for event in Event},
    "outcome": {outcome.name.lower() for outcome in Outcome},
    "kind": {"listener", "dispatcher", "worker", "web", *Kind},
    "where": {"device", "child", "worker"},
    "what": {"used", "total"},
    "priority": {"100"},
}


def alerts() -> list[dict[str, Any]]:
    """Every alert rule."""
    groups = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    board: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "vesselq.json").read_text(encoding="utf-8"))
    return board


def questions() -> list[tuple[str, str]]:
    """Every expression with who asks."""
    asked = [(rule["alert"], rule["expr"]) for rule in alerts()]
    panels = dashboard()["panels"]
    return [*asked, *((panel["title"], one["expr"]) for panel in panels for one in panel.get("targets", ()))]


@pytest.fixture(scope="module")
def labels_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """The labels of every series that a site with some of everything gives, by name."""
    site = ConsoleSite(tmp_path_factory.mktemp("site") / "data")
    settings = Settings(data_folder=site.folder)
    settings.spool_folder.mkdir()
    worker = processes.start(site.record, "worker", version="1", configuration={})
    processes.beat(site.record, worker, resources={"device": "cuda:0", "device_memory_used_bytes": 1})
    collectors = (SiteMetrics(settings, site.record), MetricsSinceStart(site.record))
    list(collectors[1].collect())
    _work(site, settings)
    found: dict[str, set[str]] = {}
    for metric in _metrics(*collectors):
        for sample in metric.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    yield found
    site.close()


def _metrics(*collectors: Any) -> list[Metric]:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return list(registry.collect())


def _work(site: ConsoleSite, settings: Settings) -> None:
    """A job with a result that waits, one that is queued, a checkpoint, a repository."""
    job = site.claim(site.study("1.2.1"))
    made = ResultObject(
        ResultKind.SEG, 1, "aa/seg.dcm", "d" * 64, "1.2.840.10008.5.1.4.1.1.66.4", "2.25.1", "2.25.2", 9
    )
    jobs.keep_result(site.record, job, KeptResult((made,), {"seconds": {"segment": 1.0}}))
    delivery = deliveries.claim(site.record, "worker0", 60)
    assert delivery is not None
    deliveries.failed(site.record, delivery, "no answer", retryable=True, give_up_after_hours=72)
    site.study("1.2.2")
    with site.record.writing() as transaction:
        transaction.session.add(
            AuditForwarding(repository="arr", next_sequence=1, attempts=0, last_error="", lease_owner="")
        )
        at = transaction.now.isoformat()
    with CheckpointFile.of(settings).extending() as checkpoints:
        checkpoints.append(1, "0" * 64, at)


def test_every_metric_that_is_asked_for_exists(labels_of: dict[str, set[str]]) -> None:
    """No alert and no panel names a series or a label that vesselq does not give."""
    for who, expression in questions():
        for name, matchers in _SELECTOR.findall(expression):
            assert name in labels_of, f"{who}: there is no {name}"
            for label, _ in _MATCHER.findall(matchers):
                assert label in labels_of[name], f"{who}: {name} has no label {label}"


def test_every_value_that_is_asked_for_can_be() -> None:
    """Events, states and kinds in alerts and panels are those of the code: a mistyped one would never fire."""
    for who, expression in questions():
        for name, matchers in _SELECTOR.findall(expression):
            for label, values in _MATCHER.findall(matchers):
                known = _KNOWN_VALUES.get(label) or {state.value for state in JobState}
                if name == "vesselq_deliveries_unfinished":
                    known = {"waiting", "sending", "failed"}
                assert set(values.split("|")) <= known, f"{who}: {label} is never {values}"


def test_every_alert_says_what_to_do() -> None:
    """Each has a name of its own, how urgent it is, what is wrong and what to do, in sentences."""
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names)) > 10
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "what_to_do"}
        assert all(text.endswith(".") for text in rule["annotations"].values()), rule["alert"]


def test_every_label_of_a_sentence_is_left_by_its_expression(labels_of: dict[str, set[str]]) -> None:
    """What a sentence fills in is a label of the series that the alert is about, not one that a sum took away."""
    for rule in alerts():
        for label in re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])):
            assert "sum(" not in rule["expr"], rule["alert"]
            assert all(label in labels_of[name] for name, _ in _SELECTOR.findall(rule["expr"])), rule["alert"]


def test_the_guide_lists_every_alert() -> None:
    """`docs/how-to/monitor.md` has a line for each alert and for none that is gone."""
    text = (DOCKER.parent / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(Vesselq\w+)`", text)) == {rule["alert"] for rule in alerts()}


def test_panels_do_not_lie_on_each_other() -> None:
    """Panels have numbers of their own and places that do not overlap, within the 24 columns."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_compose_mounts_what_is_there() -> None:
    """Every configuration that compose names is a file, and every one is used; so are the secrets that are drawn."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    for name, entry in compose["configs"].items():
        assert (DOCKER / entry["file"]).is_file(), name
    used = {one["source"] for service in compose["services"].values() for one in service.get("configs", ())}
    assert used == set(compose["configs"])
    drawn = (DOCKER / "make-secrets").read_text(encoding="utf-8")
    assert all(f"secrets/{name}" in drawn for name in compose["secrets"])
    networks = {name for service in compose["services"].values() for name in service.get("networks", ())}
    assert networks == set(compose["networks"])


def test_prometheus_may_read_the_metrics_in_compose() -> None:
    """The host name that Prometheus asks for and the network that it asks from are in the settings there."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    asks = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    text = (DOCKER / "vesselq.toml").read_text(encoding="utf-8")
    (target,) = asks["scrape_configs"][0]["static_configs"][0]["targets"]
    host = target.partition(":")[0]
    assert f'"{host}"' in re.search(r"^allowed_hosts = (.*)$", text, re.MULTILINE)[1]
    (subnet,) = [one["subnet"] for one in compose["networks"]["metrics"]["ipam"]["config"]]
    assert f'"{subnet}"' in re.search(r"^metrics_from = (.*)$", text, re.MULTILINE)[1]
    members = {name for name, service in compose["services"].items() if "metrics" in service.get("networks", ())}
    assert members == {host, "prometheus"}
    for service in ("prometheus", "grafana"):
        assert compose["services"][service]["profiles"] == ["monitoring"]

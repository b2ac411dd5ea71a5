"""What can be set, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_core.result import ResultKind
from dicom_core.setting_tables import PeerSettings
from dicom_core.settings import SENDER, Settings

PACS = {"name": "pacs", "kind": "storage_scu", "ae_title": "PACS", "host": "10.0.0.1"}
RULE = {"name": "all", "when": {"keyword": "Modality", "exists": True}, "segmenter": "ridge"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Only what the test sets."""
    import os

    for name in list(os.environ):
        if name.startswith("VESSELQ_"):
            monkeypatch.delenv(name)


def test_defaults_are_safe():
    """Loopback only, nobody may send, durable and bounded, default rules."""
    settings = Settings()
    assert (settings.listener.host, settings.web.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.peers == ()
    assert settings.worker.maximum_attempts == 3
    assert settings.rules
    assert {name for rule in settings.rules for name in rule.destinations} == {SENDER}


def test_derived_places_follow_the_data_folder(tmp_path):
    """Spool, results and the SQLite file live in one folder unless a database is named."""
    settings = Settings(data_folder=tmp_path)
    assert settings.spool_folder == tmp_path / "spool"
    assert settings.results_folder == tmp_path / "results"
    assert settings.effective_database_url == f"sqlite:///{tmp_path}/vesselq.sqlite3"
    assert Settings(database_url="postgresql://x/y").effective_database_url == "postgresql://x/y"


def test_destinations_are_told_apart_by_kind(tmp_path):
    """Three kinds; found by name."""
    settings = Settings(
        destinations=[
            PACS,
            {"name": "web", "kind": "stow_rs", "url": "https://pacs/dicom-web", "password": "hunter2"},
            {"name": "out", "kind": "folder", "path": tmp_path},
        ]
    )
    assert settings.destination("pacs").ae_title == "PACS"
    assert settings.destination("out").path == tmp_path
    assert settings.destination("none") is None
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"listener": {"port": 70000}}, "less than or equal to 65535"),
        ({"listener": {"ae_title": "A\\B"}}, "without backslash"),
        ({"listener": {"ae_title": "X" * 17}}, "at most 16"),
        ({"listener": {"maximum_object_bytes": 5}}, "greater than or equal"),
        ({"listener": {"stable_after_seconds": 0}}, "greater than 0"),
        ({"segmentation": {"series_number": 2**31 - 1}}, "less than or equal to 1000000000"),
        ({"nonsense": 1}, "Extra inputs"),
        ({"listener": {"nonsense": 1}}, "Extra inputs"),
        ({"log_level": "LOUD"}, "DEBUG"),
        ({"destinations": [{"name": "x", "kind": "smoke_signal"}]}, "smoke_signal"),
        ({"destinations": [{"name": "x", "kind": "stow_rs", "url": "file:///etc"}]}, "pattern"),
        ({"destinations": [PACS, PACS]}, "used twice"),
        ({"destinations": [{**PACS, "results": []}]}, "name at least one of seg, seg_strict"),
        ({"destinations": [{**PACS, "results": ["seg", "overlay", "seg"]}]}, "seg is named more than once"),
        ({"destinations": [{**PACS, "results": ["seg", "pdf"]}]}, "'overlay' or 'report'"),
        ({"peers": [{"name": "a", "ae_title": "A", "results": ["report"] * 2}]}, "report is named more than once"),
        ({"rules": [RULE, RULE]}, "used twice"),
        ({"rules": [{**RULE, "destinations": ["nowhere"]}]}, "nowhere; known are sender"),
        ({"peers": [{"name": "a", "ae_title": "A"}, {"name": "a", "ae_title": "B"}]}, "the name a is used twice"),
    ],
)
def test_wrong_values_are_refused_in_words(values, complaint):
    """At start, not when they are first used."""
    with pytest.raises(ValidationError, match=complaint):
        Settings(**values)


def test_names_that_do_not_fit_are_all_reported():
    """Not one after the other."""
    with pytest.raises(ValidationError) as caught:
        Settings(destinations=[PACS, PACS], rules=[{**RULE, "destinations": ["nowhere"]}])
    assert "used twice" in str(caught.value)
    assert "nowhere" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["192.0.2.1", "10.0.0.0/8", "10.0.0.7/8", "2001:db8::/32", "fe80::1%eth0", "pacs", "PACS_1", "a.b-c.example.org.",
     "1and1.de", "3com"],
)  # fmt: skip
def test_addresses_that_peers_may_have(address):
    """IP addresses, networks and host names; nothing is resolved."""
    assert PeerSettings(name="a", ae_title="A", addresses=[address]).addresses == (address,)


@pytest.mark.parametrize(
    "address",
    ["", "10.0.0.0/33", "300.1.1.1", "10.0.0", "1:2", "a b", "-a", "a..b", "http://pacs", "pacs:104", "x" * 64, "a\n"],
)
def test_addresses_that_no_peer_has(address):
    """A mistake stops every process at its start, and is named."""
    with pytest.raises(ValidationError, match="neither an IP address, a network") as caught:
        PeerSettings(name="a", ae_title="A", addresses=["192.0.2.1", address])
    assert caught.value.errors()[0]["msg"].startswith(f"Value error, {address!r}: ")


def test_names_are_checked_though_a_field_is_wrong():
    """One error does not hide the other, and each has its place."""
    with pytest.raises(ValidationError) as caught:
        Settings(listener={"port": "x"}, rules=[RULE, {**RULE, "destinations": ["nowhere"]}], destinations=[7, PACS])
    places = {problem["loc"][:3] for problem in caught.value.errors()}
    assert places == {
        ("listener", "port"), ("destinations", 0), ("rules", 1, "name"), ("rules", 1, "destinations"),
    }  # fmt: skip


@pytest.mark.parametrize("table", ["peers", "destinations", "rules"])
@pytest.mark.parametrize("value", ["text", 1, {"a": 1}, [1], [{"name": ["x"], "destinations": [[]]}], [None]])
def test_nonsense_is_refused_as_such(table, value):
    """Checks of names do not stumble over values of a wrong kind."""
    with pytest.raises(ValidationError):
        Settings(**{table: value})


def test_destinations_and_peers_say_what_they_get():
    """The SEG object unless more is named, in the order that was written."""
    wanted = ["report", "seg_deflated", "overlay"]
    settings = Settings(
        destinations=[PACS, {**PACS, "name": "reading", "results": wanted}],
        peers=[{"name": "a", "ae_title": "A", "results": ["seg", "overlay"]}],
    )
    assert settings.destination("pacs").results == (ResultKind.SEG,)
    assert settings.destination("reading").results == tuple(map(ResultKind, wanted))
    assert settings.peers[0].results == (ResultKind.SEG, ResultKind.OVERLAY)


def test_settings_cannot_be_changed():
    """Read once, handed down."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().redis_url = "redis://elsewhere"
    with pytest.raises(ValidationError, match="frozen"):
        Settings().listener.port = 1


def test_every_setting_says_what_it_is():
    """The reference page is made of the descriptions."""
    for name, field in Settings.model_fields.items():
        table = field.annotation
        if hasattr(table, "model_fields") and name != "rules":
            assert [key for key, inner in table.model_fields.items() if not inner.description] == [], name
        else:
            assert field.description, name


def test_a_setting_that_is_a_file_is_not_taken_for_a_secret(tmp_path, monkeypatch):
    """VESSELQ_WEB__CERTIFICATE_FILE is the setting; VESSELQ_WEB__OIDC__CLIENT_SECRET_FILE names a file to read."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    monkeypatch.setenv("VESSELQ_WEB__CERTIFICATE_FILE", "/etc/vesselq/web.pem")
    monkeypatch.setenv("VESSELQ_WEB__KEY_FILE", "/etc/vesselq/web.key")
    monkeypatch.setenv("VESSELQ_AUDIT__SIGNING_KEY_FILE", "/etc/vesselq/signing.pem")
    monkeypatch.setenv("VESSELQ_WEB__OIDC__CLIENT_SECRET_FILE", str(secret))
    settings = Settings()
    assert settings.web.certificate_file == Path("/etc/vesselq/web.pem")
    assert settings.signing_key_file == Path("/etc/vesselq/signing.pem")
    assert settings.web.oidc.client_secret.get_secret_value() == "hunter2"

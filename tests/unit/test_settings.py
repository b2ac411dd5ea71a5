"""What can be set, and what is refused."""

import pytest
from pydantic import ValidationError

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
            {"name": "web", "kind": "stow_rs", "url": "https://pacs/dicom-web", "password": "secret"},
            {"name": "out", "kind": "folder", "path": tmp_path},
        ]
    )
    assert settings.destination("pacs").ae_title == "PACS"
    assert settings.destination("out").path == tmp_path
    assert settings.destination("none") is None
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"listener": {"port": 70000}}, "less than or equal to 65535"),
        ({"listener": {"ae_title": "A\\B"}}, "without backslash"),
        ({"listener": {"ae_title": "X" * 17}}, "at most 16"),
        ({"listener": {"maximum_object_bytes": 5}}, "greater than or equal"),
        ({"listener": {"stable_after_seconds": 0}}, "greater than 0"),
        ({"nonsense": 1}, "Extra inputs"),
        ({"listener": {"nonsense": 1}}, "Extra inputs"),
        ({"log_level": "LOUD"}, "DEBUG"),
        ({"destinations": [{"name": "x", "kind": "smoke_signal"}]}, "smoke_signal"),
        ({"destinations": [{"name": "x", "kind": "stow_rs", "url": "file:///etc"}]}, "pattern"),
        ({"destinations": [PACS, PACS]}, "used twice"),
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

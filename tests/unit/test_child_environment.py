"""Settings that are handed to child processes arrive as they were."""

import os
from pathlib import Path

import pytest

from console.child_environment import environment_of
from dicom_core.setting_tables import FolderSettings, ListenerSettings, PeerSettings, StorageSCUSettings, StowRSSettings
from dicom_core.settings import Settings
from dicom_core.settings_file import load_settings


def through_the_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a child reads."""
    environment = environment_of(settings)
    for name in [name for name in os.environ if name.startswith("VESSELQ_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_everything_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, peers, destinations with secrets, rules with nested conditions and model arguments come out equal."""
    settings = Settings(
        data_folder=tmp_path / "data with spaces",
        redis_url="unix:///run/redis.sock",
        listener=ListenerSettings(port=12345, ae_title="A B"),
        peers=(PeerSettings(name="angio", ae_title="ANGIO1", addresses=("192.0.2.1", "2001:db8::/32")),),
        destinations=(
            StorageSCUSettings(kind="storage_scu", name="pacs", ae_title="PACS", host="pacs"),
            StowRSSettings(kind="stow_rs", name="web", url="https://x/dicom-web", password='p"ä$s'),
            FolderSettings(kind="folder", name="folder", path=tmp_path),
        ),
        models={"ridge": {"scales": [1.0, 2.0], "name": "x"}},
    )
    assert through_the_environment(settings, monkeypatch) == settings


def test_defaults_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default settings, default rules among them, come out equal."""
    settings = load_settings(Path(os.devnull))
    assert through_the_environment(settings, monkeypatch) == settings


def test_our_own_variables_do_not_leak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable or file that the parent has overruled does not overrule the child."""
    monkeypatch.setenv("VESSELQ_LISTENER__PORT", "1")
    (tmp_path / "secret").write_text("redis://other")
    monkeypatch.setenv("VESSELQ_REDIS_URL_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("VESSELQ_CONFIG", str(tmp_path / "missing.toml"))
    settings = Settings.model_validate({}).model_copy(
        update={"listener": ListenerSettings(port=2), "redis_url": "redis://mine"}
    )
    arrived = through_the_environment(settings, monkeypatch)
    assert arrived.listener.port == 2
    assert arrived.redis_url == "redis://mine"

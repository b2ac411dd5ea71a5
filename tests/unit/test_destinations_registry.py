"""Which destination a setting or the sender of a study stands for."""

from pathlib import Path

import pytest

from dicom_core.errors import ConfigurationError, PermanentDeliveryError
from dicom_core.setting_tables import FolderSettings, PeerSettings, StorageSCUSettings, StowRSSettings
from worker.destinations.folder import Folder
from worker.destinations.registry import back_to_sender, make_destination
from worker.destinations.storage_scu import StorageSCU
from worker.destinations.stow_rs import StowRS

CATHLAB = PeerSettings(name="cathlab", ae_title="XA1", addresses=("10.0.0.0/24",), host="10.0.0.9", port=11113)
SECOND = PeerSettings(name="second", ae_title="XA1", addresses=("10.0.1.7",), port=11114)
ANYWHERE = PeerSettings(name="anywhere", ae_title="FUNDUS", port=2762)


def sender(calling_ae_title: str, peer_address: str) -> str:
    peers = (CATHLAB, SECOND, ANYWHERE)
    return back_to_sender(
        peers, calling_ae_title=calling_ae_title, peer_address=peer_address, own_ae_title="VESSELQ", timeout_seconds=3
    ).describe()


def test_every_kind_of_setting_has_its_destination(tmp_path: Path) -> None:
    """And keeps its name."""
    made = [
        make_destination(settings, calling_ae_title="VESSELQ")
        for settings in (
            StorageSCUSettings(kind="storage_scu", name="pacs", ae_title="PACS", host="127.0.0.1"),
            StowRSSettings(kind="stow_rs", name="web", url="http://127.0.0.1/dicom-web"),
            FolderSettings(kind="folder", name="files", path=tmp_path),
        )
    ]
    assert [type(destination) for destination in made] == [StorageSCU, StowRS, Folder]
    assert [destination.name for destination in made] == ["pacs", "web", "files"]


def test_results_go_to_the_host_of_the_peer() -> None:
    """Where the settings give one."""
    assert sender("XA1", "10.0.0.50") == "Storage SCP XA1 at 10.0.0.9:11113"


def test_results_go_where_the_association_came_from() -> None:
    """Where the settings give no host; the port is always that of the settings."""
    assert sender("XA1", "10.0.1.7") == "Storage SCP XA1 at 10.0.1.7:11114"
    assert sender("FUNDUS", "192.0.2.1") == "Storage SCP FUNDUS at 192.0.2.1:2762"


def test_an_ipv4_address_in_ipv6_form_is_the_same() -> None:
    """A listener on :: reports ::ffff:10.0.1.7."""
    assert sender("XA1", "::ffff:10.0.1.7") == "Storage SCP XA1 at 10.0.1.7:11114"


@pytest.mark.parametrize(("ae_title", "address"), [("XA1", "10.9.9.9"), ("NOBODY", "10.0.0.50")])
def test_an_unknown_sender_is_told_in_words(ae_title: str, address: str) -> None:
    """The sentence says what to configure."""
    with pytest.raises(PermanentDeliveryError, match="no entry of peers") as caught:
        sender(ae_title, address)
    assert ae_title in str(caught.value)
    assert "add one with the host and port" in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166", "0xA9FEA9FE", "100.100.100.200"],
)
def test_metadata_addresses_are_refused(host: str) -> None:
    """In every spelling that a resolver understands."""
    settings = StowRSSettings(kind="stow_rs", name="web", url=f"http://{host}:80/dicom-web", password="geheim")
    with pytest.raises(ConfigurationError, match="link-local or metadata"):
        make_destination(settings, calling_ae_title="VESSELQ")


def test_credentials_in_the_url_are_refused_without_repeating_them() -> None:
    """They would be in every log line."""
    settings = StowRSSettings(kind="stow_rs", name="web", url="http://user:geheim@127.0.0.1/dicom-web")
    with pytest.raises(ConfigurationError, match="username and password") as caught:
        make_destination(settings, calling_ae_title="VESSELQ")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"url": "http://127.0.0.1:99999/dicom-web"}, "url is not valid"),
        ({"url": "http://[::1/dicom-web"}, "url is not valid"),
        ({"url": "https://127.0.0.1/", "ca_file": "/nowhere/ca.pem"}, "there is no ca_file /nowhere/ca.pem"),
    ],
)
def test_what_can_never_work_is_told_when_the_settings_are_read(setting: dict[str, str], words: str) -> None:
    """And not at the first result."""
    settings = StowRSSettings.model_validate({"kind": "stow_rs", "name": "web", **setting})
    with pytest.raises(ConfigurationError, match=words):
        make_destination(settings, calling_ae_title="VESSELQ")

"""``vesselq tls``: an authority and certificates that both sides of DICOM over TLS take, and what they say."""

import json
import ssl
import stat
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import shake_hands
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from typer.testing import CliRunner, Result

from console.cli import app
from console.commands.tls import state_of
from console.private_authority import certificates_in, facts, issue, make_authority
from dicom_core import tls
from dicom_core.errors import ConfigurationError, NotFoundError
from dicom_core.settings import Settings
from dicom_listener.tls import peer_names, server_context


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["tls", *map(str, arguments)], catch_exceptions=False)


def test_what_is_printed_can_be_pasted(tmp_path: Path) -> None:
    """The lines of ``init`` are settings with which a sender with a certificate of ``issue`` gets in, by its name."""
    made = run("init", "--data-folder", tmp_path, "--host", "127.0.0.1", "--host", "vesselq.example.org")
    assert made.exit_code == 0, made.output
    pasted = made.output[made.output.index("[listener.tls]") : made.output.index("Next:")]
    settings = Settings(data_folder=tmp_path, **tomllib.loads(pasted))
    given = run("issue", "PACS 1", "--data-folder", tmp_path, "--json")
    assert given.exit_code == 0, given.output
    files = {name: Path(file) for name, file in json.loads(given.stdout).items()}
    assert files["certificate_file"] == tmp_path / "tls" / "PACS_1_certificate.pem"
    client = tls.client_context(tmp_path / "tls" / "ca_certificate.pem", **files)
    context = server_context(settings.listener)
    assert context is not None
    for name in ("127.0.0.1", "vesselq.example.org", "VESSELQ"):
        server, _ = shake_hands(context, client, name)
        assert peer_names(server) == {"PACS 1"}
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(context, client, "other.example.org")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    """Whatever the umask of who asks."""
    assert run("init", "--folder", tmp_path / "new" / "tls").exit_code == 0
    folder = tmp_path / "new" / "tls"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {file.name for file in folder.iterdir()} == {
        "ca_certificate.pem", "ca_key.pem", "VESSELQ_certificate.pem", "VESSELQ_key.pem",
    }  # fmt: skip
    for file in folder.glob("*_key.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_certificates_say_what_they_may(tmp_path: Path) -> None:
    """The authority signs and does nothing else; the others are good for both ends and cannot sign."""
    make_authority(tmp_path, name="x", days=100)
    made = issue(tmp_path, "PACS", hosts=("10.0.0.1", "pacs.example.org"), days=1000)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca_certificate.pem").read_bytes())
    certificate = x509.load_pem_x509_certificate(made.certificate_file.read_bytes())
    certificate.verify_directly_issued_by(authority)
    of_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (of_authority.critical, of_authority.value.ca, of_authority.value.path_length) == (True, True, 0)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {use.dotted_string for use in uses} == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
    assert certificate.not_valid_after_utc == authority.not_valid_after_utc, "no longer than the authority"
    assert authority.signature_hash_algorithm is not None
    assert authority.signature_hash_algorithm.name == hashes.SHA256.name
    assert facts(made.certificate_file).names == ("PACS", "10.0.0.1", "pacs.example.org")


def test_nothing_is_replaced(tmp_path: Path) -> None:
    """A second authority would make strangers of all who have certificates; a second certificate is another key."""
    assert run("init", "--folder", tmp_path).exit_code == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for arguments in (("init",), ("issue", "VESSELQ")):
        result = run(*arguments, "--folder", tmp_path)
        assert result.exit_code == 2
        assert "exists; move it away first" in result.stderr
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_mistakes_are_told_in_one_sentence(tmp_path: Path) -> None:
    """No authority, no AE title, no host name, no certificate: what is wrong and what to do."""
    (tmp_path / "words.pem").write_text("nothing")
    for arguments, code, said in (
        (("issue", "PACS", "--folder", tmp_path / "none"), 4, "`vesselq tls init` makes one"),
        (("show", "--folder", tmp_path / "none"), 4, "`vesselq tls init` makes one"),
        (("issue", "A" * 17, "--folder", tmp_path), 2, "is not an AE title"),
        (("show", tmp_path / "words.pem"), 2, "words.pem holds no certificate in PEM form"),
        (("show", tmp_path / "no.pem"), 2, "no.pem cannot be read"),
        (("init", "--folder", tmp_path / "words.pem"), 2, "cannot be written"),
        (("init", "--folder", tmp_path / "new", "--name", ""), 2, "has 1 to 64 characters"),
        (("init", "--folder", tmp_path / "new", "--name", "n" * 65), 2, "has 1 to 64 characters"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert said in " ".join(result.stderr.split()).replace("│ ", "")
    make_authority(tmp_path, name="x", days=1)
    with pytest.raises(ConfigurationError, match="neither a host name nor an IP address"):
        issue(tmp_path, "PACS", hosts=("-bad-.example.org",), days=1)
    with pytest.raises(ConfigurationError, match="neither a host name nor an IP address"):
        issue(tmp_path, "PACS", hosts=("*.example.org",), days=1)
    (tmp_path / "ca_key.pem").write_text("damaged")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        issue(tmp_path, "PACS", hosts=(), days=1)
    with pytest.raises(NotFoundError):
        certificates_in(tmp_path / "none")


def test_show_lists_who_and_until_when(tmp_path: Path) -> None:
    """The authority first; names, issuer and fingerprint as other tools print them; exit code 1 when one is over."""
    assert run("init", "--folder", tmp_path, "--name", "north wing").exit_code == 0
    assert run("issue", "PACS", "--folder", tmp_path, "--host", "10.0.0.1").exit_code == 0
    shown = run("show", "--folder", tmp_path)
    assert shown.exit_code == 0
    assert "PACS, 10.0.0.1" in shown.output
    document = json.loads(run("show", "--folder", tmp_path, "--json").stdout)["certificates"]
    assert [one["authority"] for one in document] == [True, False, False]
    assert {one["issuer"] for one in document} == {"CN=north wing"}
    file = tmp_path / "PACS_certificate.pem"
    assert document[-2]["fingerprint"] == facts(file).fingerprint or document[-1]["fingerprint"]
    assert json.loads(run("show", file, "--json").stdout)["certificates"][0]["names"] == ["PACS", "10.0.0.1"]


@pytest.mark.parametrize(
    ("days", "said"),
    [(-1000, "not good yet"), (0.5, "ok"), (800, "good for 24 more days"), (1000, "no longer good")],
)
def test_states_of_certificates(tmp_path: Path, days: float, said: str) -> None:
    """In words, from 30 days before the end on with the days that are left."""
    make_authority(tmp_path, name="x", days=2000)
    certificate = facts(issue(tmp_path, "PACS", hosts=(), days=825).certificate_file)
    assert state_of(certificate, datetime.now(UTC) + timedelta(days=days)) == said


def test_a_certificate_that_is_over_ends_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a nightly check."""
    monkeypatch.setattr("console.private_authority.timedelta", lambda **given: timedelta(hours=-2) if "days" in given
                        else timedelta(**given))  # fmt: skip
    monkeypatch.setattr("console.private_authority._CLOCKS_DIFFER", timedelta(hours=9))
    make_authority(tmp_path, name="x", days=1)
    result = run("show", "--folder", tmp_path)
    assert result.exit_code == 1
    assert "no longer good" in result.output

"""``vesselq tls``: a certificate authority of one's own, certificates for AE titles, what they say."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from console.private_authority import CertificateFacts, Issued
    from dicom_core.settings import Settings

_AUTHORITY_YEARS, _CERTIFICATE_DAYS = 10, 825
_SOON_DAYS = 30

Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where certificates and keys are; tls in the data folder."),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", help="Name or IP address under which it is reached; may be repeated."),
]
Days = Annotated[int, typer.Option("--days", min=1, max=3650, metavar="N", help="How long the certificate is good.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.command()(init)
    group.command()(issue)
    group.command()(show)
    app.add_typer(group, name="tls", help="Make a private certificate authority and certificates; show them.")


def init(
    host: Hosts = None,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="Of the authority.")] = "vesselq private CA",
    days: Days = _CERTIFICATE_DAYS,
    folder: Folder = None,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Make a certificate authority, and a certificate for the listener; say what to write into the settings."""
    from console.output import print_json
    from console.private_authority import issue as issued_by
    from console.private_authority import make_authority

    settings = options.settings_of(config, data_folder)
    place = _folder(folder, settings)
    authority = make_authority(place, name=name, days=_AUTHORITY_YEARS * 365)
    own = issued_by(place, settings.listener.ae_title, hosts=tuple(host or _own_hosts(settings)), days=days)
    if json:
        print_json({"ca_file": authority.certificate_file, **_files(own)})
        return
    typer.echo(f"made a certificate authority in {place}; keep {authority.key_file.name} to yourself\n")
    typer.echo("[listener.tls]")
    typer.echo(f'certificate_file = "{own.certificate_file}"')
    typer.echo(f'key_file = "{own.key_file}"')
    typer.echo(f'ca_file = "{authority.certificate_file}"\n')
    typer.echo("Next: `vesselq tls issue AE_TITLE` for each sender; give it its two files and the ca_file.")


def issue(
    ae_title: Annotated[
        str, typer.Argument(metavar="AE_TITLE", help="Whom it is for.", callback=options.checked_ae_title)
    ],
    host: Hosts = None,
    days: Days = _CERTIFICATE_DAYS,
    folder: Folder = None,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Make a certificate for one AE title, for calling us and for being called."""
    from console.output import print_json
    from console.private_authority import issue as issued_by

    place = _folder(folder, options.settings_of(config, data_folder))
    made = issued_by(place, ae_title, hosts=tuple(host or ()), days=days)
    if json:
        print_json(_files(made))
        return
    typer.echo(f"made {made.certificate_file} and its key {made.key_file.name}")
    typer.echo(f"Give {ae_title} both and ca_certificate.pem over a safe way, then remove the key here.")
    if not host:
        typer.echo("Without --host it is good for calling us; to be called it needs the name of its host.")


def show(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Certificates, PEM; else all of the folder.")
    ] = None,
    folder: Folder = None,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Show certificates: for whom, from whom, until when. Exit code 1 when one is not good now."""
    from console.output import print_json, print_table
    from console.private_authority import certificates_in, facts

    if files:
        found = [facts(file) for file in files]
    else:
        found = certificates_in(_folder(folder, options.settings_of(config, data_folder)))
    now = datetime.now(UTC)
    if json:
        print_json({"certificates": found})
    else:
        print_table(
            "Certificates",
            ("file", "for", "from", "good until (UTC)", "state", "SHA-256"),
            [
                (one.file.name, ", ".join(one.names), one.issuer, f"{one.not_after:%Y-%m-%d}", state_of(one, now),
                 one.fingerprint)
                for one in found
            ],
        )  # fmt: skip
    if any(not one.not_before <= now <= one.not_after for one in found):
        raise typer.Exit(1)


def state_of(certificate: "CertificateFacts", now: datetime) -> str:
    """Whether it is good now, in words."""
    if now < certificate.not_before:
        return "not good yet"
    days = (certificate.not_after - now).days
    if now > certificate.not_after:
        return "no longer good"
    return "ok" if days >= _SOON_DAYS else f"good for {days} more days"


def _folder(folder: Path | None, settings: "Settings") -> Path:
    return folder.expanduser().absolute() if folder else settings.data_folder / "tls"


def _own_hosts(settings: "Settings") -> list[str]:
    """Where senders reach this listener as far as the settings tell, and this machine itself."""
    import socket

    bound = settings.listener.host
    return [*([] if bound in ("0.0.0.0", "::") else [bound]), socket.gethostname(), "localhost"]  # noqa: S104  compared


def _files(made: "Issued") -> dict[str, Path]:
    return {"certificate_file": made.certificate_file, "key_file": made.key_file}

"""What ``vesselq doctor`` looks at of the web pages: who gets in, and whether others can listen."""

from collections.abc import Iterator

from console.findings import Finding, Health
from db import accounts
from db.session import Record
from dicom_core.errors import VesselqError
from dicom_core.setting_tables import is_loopback
from dicom_core.settings import Settings
from dicom_core.tls import server_context


def web_findings(settings: Settings) -> Iterator[Finding]:
    """Certificate, sign-in and accounts."""
    web = settings.web
    where = f"{web.host}:{web.port}"
    if web.sign_in == "off":
        advice = 'fine for trying things out; else remove sign_in = "off"'
        yield Finding("web", Health.WARNING, f"{where}: whoever reaches it may do everything", advice)
    elif not is_loopback(web.host) and not web.https:
        advice = "set web.certificate_file and web.key_file, or web.behind_https where a proxy speaks HTTPS"
        yield Finding("web", Health.WARNING, f"{where} speaks plain HTTP: passwords can be listened to", advice)
    else:
        yield Finding("web", Health.OK, f"{where}, {'HTTPS' if web.https else 'HTTP on this machine'}")
    if web.certificate_file is not None and web.key_file is not None:
        try:
            server_context(web.certificate_file, web.key_file, None)
        except VesselqError as error:
            yield Finding("web certificate", Health.FAILS, str(error), "the web process does not start without it")
    yield from _accounts(settings)


def _accounts(settings: Settings) -> Iterator[Finding]:
    web = settings.web
    if web.sign_in == "off" or web.oidc.issuer:
        return
    if not settings.database_url and not (settings.data_folder / "vesselq.sqlite3").exists():
        return
    record = Record(settings.effective_database_url, process="console")
    try:
        found = accounts.has_accounts(record)
    except VesselqError:
        return  # the check of the database says it
    finally:
        record.close()
    if not found:
        advice = "run `vesselq users add NAME --role admin --role operator`"
        yield Finding("accounts", Health.WARNING, "there are none: nobody can sign in to the pages", advice)

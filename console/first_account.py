"""The first account of a new site, so that somebody can sign in at all."""

from typing import TextIO

from db import accounts
from db.session import Record
from dicom_core.roles import Role
from dicom_core.settings import Settings

NAME = "admin"


def offer_first_account(settings: Settings, record: Record, terminal: TextIO) -> bool:
    """Make the account ``admin`` with every role and a password for one sign-in, where nobody can sign in yet.

    The password is shown on the terminal, once, and must be changed at the first sign-in. Where nobody would see it,
    because what is printed goes into a file, there is no such account: ``vesselq users add`` makes it.

    Args:
        settings: Whether people sign in at all, and by whom they are known.
        record: Where accounts are.
        terminal: Where a person looks.

    Returns:
        Whether the account was made.
    """
    web = settings.web
    if web.sign_in == "off" or web.oidc.issuer or not terminal.isatty() or accounts.has_accounts(record):
        return False
    password = accounts.drawn_password(NAME)
    accounts.add(record, NAME, list(Role), password, must_change_password=True)
    scheme = "https" if web.certificate_file else "http"
    terminal.write(
        f"\nNobody could sign in yet. The first account, good for one sign-in, shown this once:\n\n"
        f"    {scheme}://{web.host}:{web.port}/    name {NAME}    password {password}\n\n"
    )
    terminal.flush()
    return True

"""Roles are for PostgreSQL: elsewhere a sentence says so. What they can do is tested on a real one."""

import pytest

from db import roles
from db.session import Record
from dicom_core.errors import ConfigurationError


def test_sqlite_has_no_roles(record: Record) -> None:
    """The command is refused with the setting that would help."""
    with pytest.raises(ConfigurationError, match="database_url"):
        roles.grant(record, "vesselq_application")

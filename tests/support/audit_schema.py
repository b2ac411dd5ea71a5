"""The structure of PS3.15 section A.5.1 as something to check messages against (``audit_message.xsd``)."""

from functools import cache
from pathlib import Path

import xmlschema


@cache
def _schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).with_name("audit_message.xsd"))


def validate(message: str) -> None:
    """Check one message.

    Raises:
        xmlschema.XMLSchemaValidationError: It breaks a rule.
    """
    _schema().validate(message)

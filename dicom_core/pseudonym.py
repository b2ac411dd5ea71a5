"""The pseudonym of a patient: one studies are found by, from which nobody without the site key learns who it is.

The identifier itself is never stored. Whoever knows it, for example an auditor, gets the same pseudonym from it. Who
holds the site key can try identifiers one by one, so the record stays confidential all the same.
"""

import hashlib
import hmac
import unicodedata

_PURPOSE = "patient"
"""The site key decides derived UIDs as well: no value made for one purpose is ever that of another."""


def patient_hash(site_key: str, patient_id: str, issuer_of_patient_id: str = "") -> str:
    """HMAC-SHA256 over a patient identifier, under the key of this installation.

    Args:
        site_key: The random word of the installation (``db.migrate.site_key``).
        patient_id: PatientID (0010,0020). Leading and trailing spaces mean nothing (PS3.5 section 6.2, VR LO).
        issuer_of_patient_id: IssuerOfPatientID (0010,0021): the same number of two issuers is two patients.

    Returns:
        64 hexadecimal digits, "" for an empty identifier.
    """
    name = _significant(patient_id)
    if not name:
        return ""
    message = "\x1f".join((_PURPOSE, name, _significant(issuer_of_patient_id)))
    return hmac.new(site_key.encode(), message.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _significant(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip(" \0")

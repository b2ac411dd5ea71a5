"""The pseudonym of a patient: stable, keyed, and the same however the identifier is written."""

import hashlib
import hmac

import pytest

from dicom_core.pseudonym import patient_hash

KEY = "5f" * 32


def test_it_is_hmac_sha256_over_identifier_and_issuer() -> None:
    """Anybody with the site key can recompute it; it is 64 hexadecimal digits and shows nothing of the identifier."""
    expected = hmac.new(KEY.encode(), b"patient\x1fMRN-1\x1fHOSPITAL", hashlib.sha256).hexdigest()
    assert patient_hash(KEY, "MRN-1", "HOSPITAL") == expected
    assert len(expected) == 64
    assert "MRN" not in expected


@pytest.mark.parametrize("nobody", ["", " ", "\0", "  \0"])
def test_no_identifier_has_no_pseudonym(nobody: str) -> None:
    """An absent, empty or padded empty PatientID is nobody, whoever issued it."""
    assert patient_hash(KEY, nobody, "HOSPITAL") == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MRN-1", "MRN-1 "),
        ("MRN-1", "  MRN-1\0"),
        ("M\u00fcller", "Mu\u0308ller"),
    ],
)
def test_padding_and_composition_mean_nothing(one: str, other: str) -> None:
    """Spaces around an LO are not part of it (PS3.5 6.2); a letter may be composed or not."""
    assert patient_hash(KEY, one) == patient_hash(KEY, other)


def test_other_patients_have_other_pseudonyms() -> None:
    """Identifier, letter case, issuer, their border and the site key all count."""
    made = [
        patient_hash(KEY, "MRN-1"),
        patient_hash(KEY, "mrn-1"),
        patient_hash(KEY, "MRN 1"),
        patient_hash(KEY, "MRN-1", "HOSPITAL"),
        patient_hash(KEY, "MRN-1H", "OSPITAL"),
        patient_hash("6" * 64, "MRN-1"),
    ]
    assert len(set(made)) == len(made)


def test_a_lone_surrogate_is_hashed_as_well() -> None:
    """What a terminal passes on that is no Unicode does not break a search."""
    assert len(patient_hash(KEY, "MRN-\udce9")) == 64

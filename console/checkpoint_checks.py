"""What ``vesselq doctor`` says about the checkpoints of the audit log."""

from collections.abc import Iterator

from console.findings import Finding, Health
from db.audit_checkpoints import CheckpointFile
from db.audit_signing import signing_state
from db.migrate import current_revision, expected_revision
from db.session import Record
from dicom_core.errors import AuditError, UnavailableError
from dicom_core.settings import Settings

_WHAT = "audit checkpoints"


def audit_checkpoints(settings: Settings) -> Iterator[Finding]:
    """Whether the log is signed in time; nothing while there is no database of this release."""
    if not settings.database_url and not (settings.data_folder / "vesselq.sqlite3").exists():
        return
    file = CheckpointFile.of(settings)
    record = Record(settings.effective_database_url, process="console")
    try:
        if current_revision(record) != expected_revision():
            return
        state = signing_state(record, file)
    except UnavailableError:  # the check of the database says so
        return
    except AuditError as error:
        yield Finding(_WHAT, Health.WARNING, str(error), "let this account read audit.checkpoint_folder")
        return
    finally:
        record.close()
    signed = state.last.sequence if state.last else 0
    found = f"row {signed} of {state.head_sequence} is signed in {file.path}"
    if signed > state.head_sequence:
        yield Finding(_WHAT, Health.FAILS, f"{found}: the end of the log is missing", "run `vesselq audit verify`")
    elif state.is_late(settings.audit.checkpoint_seconds):
        late = f"{found}; the next row has waited {state.waiting_seconds:.0f} s"
        yield Finding(_WHAT, Health.WARNING, late, "start the dispatcher, and look into its log for no-checkpoint")
    else:
        yield Finding(_WHAT, Health.OK, found)

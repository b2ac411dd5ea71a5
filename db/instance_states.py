"""States of a stored instance."""

RECEIVED = "RECEIVED"
"""Its file is in the spool."""
MISSING = "MISSING"
"""Its file should be there and is not, or is damaged."""
PURGED = "PURGED"
"""Its file was removed by the retention policy."""

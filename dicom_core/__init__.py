"""The words all processes share: settings, errors, identifiers, studies, jobs, routing, the spool. Pure, no SQL."""

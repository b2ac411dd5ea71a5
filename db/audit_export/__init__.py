"""Audit events in the forms that others read: messages of PS3.15 annex A.5, FHIR, CSV, JSON lines with chain proof."""

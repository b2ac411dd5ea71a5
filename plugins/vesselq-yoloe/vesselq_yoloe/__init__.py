"""YOLOE for vesselq. Licensed under AGPL-3.0-or-later; see LICENSE-NOTE.md."""

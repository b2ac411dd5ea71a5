"""The record: the only room with SQL."""

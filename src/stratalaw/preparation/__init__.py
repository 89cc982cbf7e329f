"""Checks before a study runs."""

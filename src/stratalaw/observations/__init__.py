"""Everything that was measured, as one table."""

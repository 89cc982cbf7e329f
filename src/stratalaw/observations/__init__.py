"""What was measured, as one table."""

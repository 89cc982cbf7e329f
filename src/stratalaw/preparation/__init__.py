"""What is looked at before a study runs."""

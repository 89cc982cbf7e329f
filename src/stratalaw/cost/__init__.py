"""What a study takes, before it runs: GPU-hours, disk and wall time."""

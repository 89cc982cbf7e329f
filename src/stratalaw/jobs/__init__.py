"""How the workflow's jobs run on a machine, and how they fail."""

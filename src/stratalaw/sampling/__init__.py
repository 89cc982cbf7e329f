"""Some of the items in place of all: which ones, and what they say of the rest."""

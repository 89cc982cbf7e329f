"""How often the bootstrap of the laws draws; apart from them, since every job of the workflow reads it when it starts."""

RESAMPLES = 1000

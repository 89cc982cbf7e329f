"""How often the bootstrap of the laws draws: apart from them, since every job reads it when it starts."""

RESAMPLES = 1000

"""What the paper publishes (Zhou et al., arXiv 2508.18609), to set beside our own fits; it gives no intervals."""

from __future__ import annotations

# Where two readings of the paper differ (application's alpha, reasoning's beta and delta), the first is given.
EXPONENTS = {
    "memorization": {"alpha": -0.315, "beta": -0.964, "gamma": -0.040, "delta": 0.064},
    "application": {"alpha": -0.409, "beta": -1.100, "gamma": -0.030, "delta": 0.075},
    "reasoning": {"alpha": -0.320, "beta": -1.356, "gamma": -0.025, "delta": 0.087},
    "general": {"alpha": -0.359, "beta": -1.067, "gamma": -0.032, "delta": 0.073},
}

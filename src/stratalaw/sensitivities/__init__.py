"""What each part of a model adds to a stratum when it alone gets more bits."""

"""What each part of a model changes in a stratum when it alone has other bits."""

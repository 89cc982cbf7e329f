"""lm-eval's tasks: requests recorded once, answered by every variant, and scored."""

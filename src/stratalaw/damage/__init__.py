"""What quantization costs: each variant beside its original, item by item."""

"""Published accuracies of quantized models, the law fitted to them, and what it says of a model that is in no table."""

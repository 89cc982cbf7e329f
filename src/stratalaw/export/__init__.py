"""From a variant of a study to what can be served: the packed checkpoint with a model card, and the Hub."""

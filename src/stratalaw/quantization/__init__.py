"""GPTQ checkpoints: how they are made, audited, and read again."""

"""Task-stratified scaling laws of post-training quantization (arXiv 2508.18609)."""

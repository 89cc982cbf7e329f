"""Calibration sets: which texts GPTQ sees."""

"""Profiling: measure what a denoising step buys and costs, and fit the curves."""

"""Profiling: measure what a denoising step buys and costs, and fit the curves."""

import edge_node  # noqa: F401 - its settings for libraries, before anything imports torch

"""Measuring: the configuration, the grid, the processes that generate and score."""

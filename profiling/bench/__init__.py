"""Benchmarks beside the profile: serving, loading, memory over many cycles."""

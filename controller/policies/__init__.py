"""Deciding without learning, the bounds of what can be decided, and rating either."""

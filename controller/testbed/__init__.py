"""The system that decisions are applied to: real nodes, or the simulator behind the same calls."""

"""The system model in NumPy: radio, requests, latency, utility, and the simulator of all of it."""

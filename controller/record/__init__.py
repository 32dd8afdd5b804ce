"""The configuration of a live run and what the run leaves: requests, report."""

"""What a live run is told and what it leaves: configuration, requests, report."""

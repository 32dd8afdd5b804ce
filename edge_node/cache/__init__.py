"""Which models are resident: leases, byte budgets, host copies, who makes room."""

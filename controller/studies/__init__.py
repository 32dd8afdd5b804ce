"""Many training runs: studies, their records, tables and figures."""

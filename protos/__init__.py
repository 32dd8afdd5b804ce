"""What the processes agree on: schema, messages, errors, wire, config, logs, seeds, tickets."""

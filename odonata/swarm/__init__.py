"""A whole swarm on one machine: `odonata up` and `odonata demo`, as separate processes."""

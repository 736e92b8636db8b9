"""The manager: clusters, users, jobs, console. Arrives with its own release."""

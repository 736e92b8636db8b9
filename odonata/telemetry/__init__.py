"""What happened, as records: written beside the work, never waited for."""

"""The what-if simulator: the production cores on virtual time."""

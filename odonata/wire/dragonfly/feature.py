"""What our programs can do beyond Dragonfly's API, told in metadata that others ignore."""

from __future__ import annotations

FEATURES_KEY = "odonata-features"

# A peer may register before it knows the content's length: it need not ask the source first.
# Dragonfly's scheduler would take an unset length for an empty file.
UNSIZED_REGISTER = "unsized-register"

"""Worlds in which much goes wrong at once, and the verdict on how everybody fared."""

"""The kernel: what every Odonata program shares, and the only package other programs import.

It holds ids, errors, settings, logs, the wires and the client; it decides nothing about scheduling.
"""

__version__ = "0.1.0"

"""Settings: typed, frozen, and each value with a known origin.

A program's models live in its own room; here is what fills and prints them. Precedence: command
line, environment (ODONATA_*), YAML file, default.
"""

from odonata.settings.loading import Loaded, load
from odonata.settings.section import Section, Settings

__all__ = ["Loaded", "Section", "Settings", "load"]

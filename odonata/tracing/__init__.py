"""OpenTelemetry spans of what our programs do for each other, off unless a collector is named.

`span` is what the programs know of it; only `otlp`, loaded when tracing is on, knows OpenTelemetry.
"""

"""From telemetry to a ranker: data set, labels, fit, evaluation. Arrives with the learning loop."""

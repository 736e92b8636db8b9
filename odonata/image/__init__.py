"""Container images as registries describe them: names, manifests, log-ins. Nothing is asked."""

"""`odonata demo`: one image, eight peers, a thin origin; first plainly, then through the swarm."""

"""Tasks: what a network's outputs mean: targets, loss, predictions and their metrics. Importable without torch."""

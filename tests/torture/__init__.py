"""Real processes stopped, doubled and overtaken, by hundreds; `make torture` runs them, results add up in docs/."""

"""Other programs at the same work, each in an environment of its own; the scripts here print one line of JSON."""

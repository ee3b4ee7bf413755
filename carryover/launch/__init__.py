"""The launch floor: torchrun, signals and exit codes."""

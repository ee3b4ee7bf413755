"""The components: one folder each, thin functions that KFP runs and that call `carryover.steps` in the image."""

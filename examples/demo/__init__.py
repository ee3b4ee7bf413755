"""The demo: the pipeline `train` on real reviews, its training killed in the middle of an epoch."""

"""Tests of the pipeline `train`."""

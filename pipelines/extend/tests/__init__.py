"""Tests of the pipeline `extend`."""

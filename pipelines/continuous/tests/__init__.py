"""Tests of the pipeline `continuous`."""

"""Tests of the pipeline `transfer`."""

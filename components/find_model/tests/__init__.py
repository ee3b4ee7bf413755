"""Tests of the component `find_model`."""

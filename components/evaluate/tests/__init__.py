"""Tests of the component `evaluate`."""

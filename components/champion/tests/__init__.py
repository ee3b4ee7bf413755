"""Tests of the component `champion`."""

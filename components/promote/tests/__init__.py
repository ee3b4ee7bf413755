"""Tests of the component `promote`."""

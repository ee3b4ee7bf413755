"""Tests of the component `preflight`."""

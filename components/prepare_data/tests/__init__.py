"""Tests of the component `prepare_data`."""

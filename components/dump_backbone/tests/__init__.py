"""Tests of the component `dump_backbone`."""

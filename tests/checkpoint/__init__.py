"""Tests of the checkpoint floor, on real stores: a local folder, memory and an S3 server."""

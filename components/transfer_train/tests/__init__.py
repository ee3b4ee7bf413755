"""Tests of the component `transfer_train`."""

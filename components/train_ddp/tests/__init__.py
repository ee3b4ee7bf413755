"""Tests of the component `train_ddp`."""

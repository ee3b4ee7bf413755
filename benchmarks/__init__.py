"""Measurements that back the project's claims about speed; each prints what it found and writes JSON."""

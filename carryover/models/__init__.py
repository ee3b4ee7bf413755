"""Families of networks: one file a family, chosen from the columns; assembled, exported and loaded here."""

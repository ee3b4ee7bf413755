"""Owns what each kind of answers becomes: findings for people, a table of predictions, files of its own."""

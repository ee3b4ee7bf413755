"""The steps floor: flags in, artifacts out."""

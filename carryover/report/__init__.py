"""Reports for people: one HTML page each, complete in itself, in light and dark."""

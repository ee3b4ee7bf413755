"""What one training carries over to the next: weights, lineage, drift, gates and champions."""

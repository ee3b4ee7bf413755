"""The ground floor: configuration, registries, storage, ranks and words for people."""

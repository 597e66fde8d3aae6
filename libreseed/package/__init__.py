"""contentHash, SRC, both manifests and the .tgz as values and byte streams."""

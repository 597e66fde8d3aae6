"""The local file system: durable writes, confined paths, bounded reads."""

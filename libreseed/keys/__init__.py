"""Ed25519 keys, key files and signatures with domains."""

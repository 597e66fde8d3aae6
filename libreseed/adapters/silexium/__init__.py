"""Silexium on disk and on the network: the database, the log, its mirrors and witnesses, stamps and clients."""

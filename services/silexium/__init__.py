"""The Silexium service: keys, attestations, ingest, the API server, the log, its mirrors and witnesses."""

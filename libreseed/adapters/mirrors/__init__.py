"""HTTP mirrors as a source of releases: their documents, their ranges, and the work shared out among them."""

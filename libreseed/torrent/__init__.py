"""Hybrid BitTorrent metainfo (BEP 3, 52) as values: layout, piece hashes, info-hashes."""

"""Silexium's core, sans-IO: attestations, proven time, the transparency log and the order in which they are trusted."""

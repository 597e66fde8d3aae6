"""Chunks and stripes on a disk: verified, repaired, recovered."""

"""Proven time: the queue of stamps and its clients, block headers, and the embedded authorities."""

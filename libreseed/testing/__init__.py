"""Fakes that implement the production interfaces, and the conformance suites that both pass."""

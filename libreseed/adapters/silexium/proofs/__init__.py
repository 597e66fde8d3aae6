"""The resolver's side: where proofs come from, and what was seen of each log."""

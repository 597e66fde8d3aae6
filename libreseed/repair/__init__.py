"""The 5120-byte chunk grid, the chunk map, Reed-Solomon stripes and repair planning."""

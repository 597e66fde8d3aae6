"""The DHT node on UDP."""

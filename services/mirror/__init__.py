"""``libreseed-mirror``: the HTTPS mirror."""

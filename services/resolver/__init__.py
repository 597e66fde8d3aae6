"""``libreseed-resolve``: finds, downloads, repairs, verifies and installs one release."""

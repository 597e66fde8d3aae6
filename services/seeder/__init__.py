"""``libreseed-seeder``: validates, announces and seeds releases; never holds a private key."""

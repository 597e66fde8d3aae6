"""``libreseed-packager``: signed releases from a directory; never talks to a network."""

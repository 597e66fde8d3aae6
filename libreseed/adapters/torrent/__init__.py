"""libtorrent on trio: the only package that imports it."""

"""``libreseed-mirror``: gives verified releases to anybody over HTTPS, as a daemon or as static files."""

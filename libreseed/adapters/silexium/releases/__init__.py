"""The catalogue of releases: admission, answers, and their way into the log."""

"""``libreseed``: the verbs of a person at a shell."""

"""Directory trees into archives and back."""

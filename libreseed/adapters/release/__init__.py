"""Release folders: built, verified, kept for seeding."""

"""The log on disk: its tables, index and check, and its form as a folder of static files."""

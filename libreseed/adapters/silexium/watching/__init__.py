"""Those who watch a log: mirrors, monitors, witnesses, and what they ask it for."""

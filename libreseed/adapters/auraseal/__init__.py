"""AuraSeal on this machine's disk: DIRAM packages, and folders of a website with their integrity manifest."""

"""What a resolve reads and writes: fetching, salvage, its journal and its store."""

"""All input and output: files, processes, sockets, clocks. The only layer that may block, so it uses threads."""

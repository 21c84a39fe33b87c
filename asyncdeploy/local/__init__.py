"""SSH nodes inside this process, hostile where a test wants them to be."""

"""Programs for nodes: ranks that work, ranks that fail, processes that hide."""

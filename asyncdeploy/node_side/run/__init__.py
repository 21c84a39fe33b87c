"""Commands and jobs on the node: who starts, watches, ends and records them."""

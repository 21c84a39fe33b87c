"""How a node becomes able to run a project: environments are values, known to JSON by the names of their classes."""

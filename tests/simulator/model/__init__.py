"""Our programs as a simulated machine runs them: the worker, runs, jobs; checked against the real ones."""

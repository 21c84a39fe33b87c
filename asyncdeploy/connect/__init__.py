"""Live connections: who gets which, how many at once; deciding is synchronous, doing is async."""

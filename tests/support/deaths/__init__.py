"""Random kills of anything that takes part: who dies, whom it belongs to, and what was promised."""

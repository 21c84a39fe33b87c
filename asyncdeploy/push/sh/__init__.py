"""A push to a node without python3: plain sh does there what the receiver would."""

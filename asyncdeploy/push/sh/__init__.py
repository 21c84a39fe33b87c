"""A push to a node without python3: sh does there what the receiver would."""

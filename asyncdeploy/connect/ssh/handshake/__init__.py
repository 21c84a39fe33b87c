"""From the first packet to a login: what was seen on the way, and, where there is none, why not in our words."""

"""What an environment needs to be asked or placed on the node."""

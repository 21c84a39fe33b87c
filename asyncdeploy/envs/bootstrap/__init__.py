"""An environment made on a node: its assets placed, its steps run, its failures explained."""

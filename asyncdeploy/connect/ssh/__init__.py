"""The only door to asyncssh: foreign exceptions, keys and configuration are translated here, once."""

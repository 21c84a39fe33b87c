"""Where verbs meet people and programs: streams, JSON, exit statuses, an open pool."""

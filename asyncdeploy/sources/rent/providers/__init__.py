"""What each provider says and wants to hear: four dialects of one protocol, over one way to ask."""

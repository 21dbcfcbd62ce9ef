"""Loading models, and what kind each is."""

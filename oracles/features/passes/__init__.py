"""Running many ablated prompts through a model, fast."""

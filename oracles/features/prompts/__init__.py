"""What is ablated: texts, passages, conversations, cut into segments."""

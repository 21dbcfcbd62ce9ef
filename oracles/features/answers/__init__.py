"""What is said of an answer: its tokens, its choices, its likeness."""

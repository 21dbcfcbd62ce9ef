"""Reports of a saved or fresh explanation: a page and a terminal table."""

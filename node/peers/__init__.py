"""Other nodes: where they are, who is connected, what they are worth."""

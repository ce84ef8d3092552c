"""Keys, coins and payments of one person."""

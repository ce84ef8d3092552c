"""What a node tells the outside of by itself: commands that it runs and URLs that it calls."""

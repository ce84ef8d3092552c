"""What a node shows of itself: metrics, a day of series, tasks and traces."""

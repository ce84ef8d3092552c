"""The methods of the node, a module for each room."""

"""The transport over the internet: TCP, Noise and Yamux under our own switchboard."""

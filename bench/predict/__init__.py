"""One trained network and single images."""

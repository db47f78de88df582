"""One process a contender: the protocol, the client and the server."""

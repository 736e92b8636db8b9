"""The peer's body: storage, piece server and client, sources, gRPC, proxy around `peer.core`."""

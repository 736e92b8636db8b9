"""The wires: Odonata's own message types, Dragonfly's protobuf beside them, and the Vortex codec.

`message` is what cores speak; `dragonfly` translates it to and from `dragonfly_api`; `vortex` is
the piece protocol as pure bytes in, bytes out. Nothing here opens a socket.
"""

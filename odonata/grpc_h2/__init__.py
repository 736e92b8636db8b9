"""gRPC over HTTP/2 by a small codec of our own: the fast path of our servers.

`connection` and what it uses (`frame`, `header`, `call_head`, `message`, `stream`, `calm`) are
bytes in and bytes out: no sockets, no clock, no tasks. `protocol` carries them over a socket,
`call` and `listening` run the handlers, `server` binds, starts and stops. Nothing of any service is
known here. Why it exists: docs/adr/0009-own-http2.md.
"""

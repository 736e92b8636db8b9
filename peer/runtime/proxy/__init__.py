"""The peer's HTTP proxy: forward proxy, registry mirror, and entrance to the swarm.

`server` accepts connections, `wire` moves their bytes, `conversation` speaks HTTP/1.1 over one,
`exchange` answers one request by `p2p`, `direct` or `tunnel`. What goes where is decided by
`peer.core.proxy_rule`; opening HTTPS on the way is not done here.
"""

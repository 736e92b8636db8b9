"""Persistent and persistent cache tasks: contents that a user put into the swarm.

A *persistent cache* task is a file of some host that lives nowhere but in the swarm. A *persistent*
task is one that was written to object storage as well, where a peer without parents finds it. The
scheduler keeps what is known of them in Redis and sees to their replicas; here is the peer's side.

A download of such a task is a download like any other (`peer.core.download`, `peer.runtime.hub`):
there is one hub for each kind, whose conversations speak the kind's words. What differs is here:
facts come from the scheduler, not from a source or a parent; a task begins with an import; and a
copy has a tenure.
"""
